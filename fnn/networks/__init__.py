"""Networks: short functions that return layers.

Each takes `dtype`, what its layers compute in: "bfloat16". By default they follow the policy.
"""

# ruff: noqa: F401 - this module only collects names

from fnn.networks.convolutional import lenet, resnet, unet
from fnn.networks.decoding import generate, start_decoding
from fnn.networks.hugging_face import from_hugging_face
from fnn.networks.language import bert, gpt2, llama
from fnn.networks.plain import lstm_classifier, mlp
from fnn.networks.transformers import encoder_decoder, gpt, vit, whisper_encoder
