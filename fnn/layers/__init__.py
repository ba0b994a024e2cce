"""The layers, one family in each file."""

# ruff: noqa: F401 - this module only collects names

from fnn.core.combining import Composite
from fnn.core.config import serializers
from fnn.core.layer import Layer
from fnn.layers.activation import ELU, Activation, LeakyReLU, PReLU, ReLU, Softmax
from fnn.layers.adaptive_pooling import (
    AdaptiveAveragePooling1D,
    AdaptiveAveragePooling2D,
    AdaptiveAveragePooling3D,
    AdaptiveMaxPooling1D,
    AdaptiveMaxPooling2D,
    AdaptiveMaxPooling3D,
)
from fnn.layers.attention import GroupedQueryAttention, MultiHeadAttention
from fnn.layers.batch_normalization import BatchNormalization
from fnn.layers.bidirectional import Bidirectional
from fnn.layers.cells import GRUCell, LSTMCell, SimpleRNNCell
from fnn.layers.conv_recurrent import ConvLSTM1D, ConvLSTM2D, ConvLSTM3D
from fnn.layers.convolution import Conv1D, Conv2D, Conv3D
from fnn.layers.dense import Dense
from fnn.layers.depthwise import (
    DepthwiseConv1D,
    DepthwiseConv2D,
    SeparableConv1D,
    SeparableConv2D,
)
from fnn.layers.dropout import (
    AlphaDropout,
    Dropout,
    GaussianDropout,
    GaussianNoise,
    SpatialDropout1D,
    SpatialDropout2D,
    SpatialDropout3D,
)
from fnn.layers.einsum import EinsumDense
from fnn.layers.embedding import Embedding, ReversibleEmbedding
from fnn.layers.experts import MixtureOfExperts
from fnn.layers.global_pooling import (
    GlobalAveragePooling1D,
    GlobalAveragePooling2D,
    GlobalAveragePooling3D,
    GlobalMaxPooling1D,
    GlobalMaxPooling2D,
    GlobalMaxPooling3D,
)
from fnn.layers.jax_layer import FlaxLayer, JaxLayer
from fnn.layers.lora import LoRA
from fnn.layers.masks import Masking, Unmask
from fnn.layers.merging import (
    Add,
    Average,
    Concatenate,
    Dot,
    Maximum,
    Minimum,
    Multiply,
    Subtract,
    add,
    average,
    concatenate,
    dot,
    maximum,
    minimum,
    multiply,
    subtract,
)
from fnn.layers.normalization import (
    GroupNormalization,
    LayerNormalization,
    RMSNormalization,
    UnitNormalization,
)
from fnn.layers.padding import (
    Cropping1D,
    Cropping2D,
    Cropping3D,
    ZeroPadding1D,
    ZeroPadding2D,
    ZeroPadding3D,
)
from fnn.layers.plain_attention import AdditiveAttention, Attention
from fnn.layers.pooling import (
    AveragePooling1D,
    AveragePooling2D,
    AveragePooling3D,
    MaxPooling1D,
    MaxPooling2D,
    MaxPooling3D,
)
from fnn.layers.position import PositionEmbedding, RotaryEmbedding, SinusoidalPosition
from fnn.layers.quantized import Quantized
from fnn.layers.recurrent import GRU, LSTM, SimpleRNN
from fnn.layers.repeat import Repeat
from fnn.layers.reshaping import Flatten, Permute, RepeatVector, Reshape, Reverse
from fnn.layers.rnn import RNN, StackedRNNCells
from fnn.layers.sequential import Sequential
from fnn.layers.shared.input_spec import InputSpec
from fnn.layers.simple import (
    ActivityRegularization,
    Bias,
    Identity,
    Lambda,
    Rescaling,
)
from fnn.layers.spectral import SpectralNormalization
from fnn.layers.stacking import stack, unstack
from fnn.layers.transformer import (
    GatedDense,
    TransformerDecoderBlock,
    TransformerEncoderBlock,
)
from fnn.layers.transposed import Conv1DTranspose, Conv2DTranspose, Conv3DTranspose
from fnn.layers.upsampling import UpSampling1D, UpSampling2D, UpSampling3D
from fnn.layers.wrappers import (
    Ensemble,
    Frozen,
    Inference,
    Parallel,
    Remat,
    Residual,
    Spread,
    TimeDistributed,
    Training,
)
from fnn.preprocessing.augmentation import (
    AugMix,
    CutMix,
    MixUp,
    RandAugment,
    RandomBrightness,
    RandomColorDegeneration,
    RandomColorJitter,
    RandomContrast,
    RandomCrop,
    RandomFlip,
    RandomHue,
    RandomPerspective,
    RandomRotation,
    RandomSaturation,
    RandomSharpness,
    RandomShear,
    RandomTranslation,
    RandomZoom,
)
from fnn.preprocessing.discretization import Discretization
from fnn.preprocessing.encoding import CategoryEncoding
from fnn.preprocessing.hashing import HashedCrossing, Hashing
from fnn.preprocessing.images import (
    AutoContrast,
    CenterCrop,
    ContrastLimitedAdaptiveHistogramEqualization,
    Equalization,
    MaxNumBoundingBoxes,
    RandomElasticTransform,
    RandomErasing,
    RandomGaussianBlur,
    RandomGrayscale,
    RandomInvert,
    RandomPosterization,
    Resizing,
    Solarization,
)
from fnn.preprocessing.lookups import IntegerLookup, StringLookup
from fnn.preprocessing.normalization import Normalization
from fnn.preprocessing.pipeline import Pipeline
from fnn.preprocessing.sounds import MelSpectrogram, STFTSpectrogram
from fnn.preprocessing.text import TextVectorization
from fnn.subclassing.wrapper import Wrapper
from fnn.symbolic.graph import Graph
from fnn.symbolic.input_layer import InputLayer
from fnn.symbolic.node import Input
from fnn.symbolic.operations import GetItem, MatMul, Operator

# Keras's other names for the same classes.
AvgPool1D = AveragePooling1D
AvgPool2D = AveragePooling2D
AvgPool3D = AveragePooling3D
MaxPool1D = MaxPooling1D
MaxPool2D = MaxPooling2D
MaxPool3D = MaxPooling3D
GlobalAvgPool1D = GlobalAveragePooling1D
GlobalAvgPool2D = GlobalAveragePooling2D
GlobalAvgPool3D = GlobalAveragePooling3D
GlobalMaxPool1D = GlobalMaxPooling1D
GlobalMaxPool2D = GlobalMaxPooling2D
GlobalMaxPool3D = GlobalMaxPooling3D
Convolution1D = Conv1D
Convolution2D = Conv2D
Convolution3D = Conv3D
Convolution1DTranspose = Conv1DTranspose
Convolution2DTranspose = Conv2DTranspose
Convolution3DTranspose = Conv3DTranspose
SeparableConvolution1D = SeparableConv1D
SeparableConvolution2D = SeparableConv2D
GroupQueryAttention = GroupedQueryAttention
serialize, deserialize = serializers("layer", __name__, "Dense(2)")

# `from fnn.layers import *` imports the same names as `from keras.layers import *`: layers and
# functions of layers. `Sequential` is left out, since it would hide the model of that name.
__all__ = sorted(
    name
    for name, thing in globals().items()
    if name[0] != "_" and callable(thing) and name not in ("Sequential", "serializers")
)
