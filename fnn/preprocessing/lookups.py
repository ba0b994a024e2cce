"""IntegerLookup, StringLookup: tokens to indices of a vocabulary, given or learned, and back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fnn.core.fields import not_negative, one_of, positive
from fnn.core.tree import SpecTree, array_spec
from fnn.preprocessing.adapting import Data
from fnn.preprocessing.encoding import encode_on_host, encoded_shape, mode
from fnn.preprocessing.hashes import farm_hash, sip_hash
from fnn.preprocessing.strings import as_host, dtype_of, items_of
from fnn.preprocessing.tables import Table, checked_table
from fnn.preprocessing.vocabularied import Vocabularied, vocabulary_field
from fnn.preprocessing.vocabulary import Vocabulary

MODES = ("int", "one_hot", "multi_hot", "count", "tf_idf")


class IndexLookup(Vocabularied, loadable=False):
    """The base of `StringLookup` and `IntegerLookup`."""

    is_of_strings: ClassVar[bool] = True

    if TYPE_CHECKING:  # the fields of both, each in Keras's order
        max_tokens: int | None = None
        num_oov_indices: int = 1
        mask_token: Any = None
        oov_token: Any = None
        vocabulary: Any = None
        idf_weights: Any = None
        invert: bool = False
        output_mode: str = "int"
        pad_to_max_tokens: bool = False
        salt: Any = None

    def validate(self) -> None:
        super().validate()
        check_arguments(self)
        if self.vocabulary is not None and self.learned is None:
            self.table()  # raises for a vocabulary that cannot be right

    def lookup(self) -> IndexLookup:
        return self

    def table(self) -> Table:
        known: Table | None = vars(self).get("_fnn_table")
        if known is None:
            if self.learned is not None:
                known = Table.of(self, self.learned)
            elif self.vocabulary is not None:
                known = checked_table(self, self.vocabulary, self.idf_weights)
            else:
                known = Table.of(self, Vocabulary())
            vars(self)["_fnn_table"] = known
        return known

    # -- learning --------------------------------------------------------------------------------

    def batches(self, data: Data) -> Iterator[Any]:
        for batch in super().batches(data):
            array = as_host(self, batch)
            if array.ndim == 1 and batch is data:
                array = array[:, None]  # each is a document
            yield array

    def update_state(self, data: Data) -> None:
        """Counts the tokens of one more batch; a single axis is one document."""
        self._refuse_adapting()
        array = np.atleast_1d(as_host(self, data))
        tokens = self.keys(array)
        self._counts.add(tokens)
        if self.output_mode == "tf_idf":
            size = array.size
            if array.ndim > 1:
                size = array[0].size
            starts = range(0, len(tokens), max(size, 1))
            self._counts.add_documents(tokens[i : i + size] for i in starts)

    def keys(self, array: np.ndarray) -> list[Any]:
        """The tokens of an array, one by one."""
        raise NotImplementedError

    # -- outputs ---------------------------------------------------------------------------------

    def host_spec(self, x: SpecTree) -> SpecTree:
        if self.invert:
            if self.is_of_strings:
                return array_spec(x.shape, "string")
            return array_spec(x.shape, dtype_of(self, "int"))
        return self.spec_of(x.shape)

    def spec_of(self, shape: tuple[int, ...]) -> SpecTree:
        """The outputs for tokens of this shape."""
        depth = 0 if self.output_mode == "int" else self.depth
        encoded = encoded_shape(shape, self.output_mode, depth)
        return array_spec(encoded, self.output_dtype)

    @property
    def output_dtype(self) -> np.dtype:
        """int64 as JAX has it for indices, else floats."""
        return dtype_of(self, self.output_mode)

    @property
    def depth(self) -> int:
        """The length of encoded outputs. Raises ValueError without a vocabulary."""
        if self.pad_to_max_tokens and self.max_tokens is not None:
            return self.max_tokens
        self.table().require(self)
        return self.vocabulary_size()

    def compute(self, x: Any) -> np.ndarray:
        table = self.table()
        table.require(self)
        if self.invert:
            return table.tokens_at(x)
        indices = self.indices_of(x)
        if self.output_mode == "int":
            return indices.astype(self.output_dtype, copy=False)
        encoding = self.output_mode
        if encoding == "tf_idf":
            encoding = "count"
        encoded = encode_on_host(indices, encoding, self.depth, self.output_dtype)
        return self.weighted(encoded)

    def weighted(self, counted: np.ndarray) -> np.ndarray:
        """Counts times the weights of tokens, in that mode."""
        if self.output_mode != "tf_idf":
            return counted
        weights = self.table().weights_for(self.depth)
        weighted: np.ndarray = counted * weights.astype(counted.dtype)
        return weighted

    def indices_of(self, x: np.ndarray) -> np.ndarray:
        """The index of each token; in other modes than "int" one out of range for the mask."""
        table = self.table()
        indices = table.find(self.keys(x)).reshape(x.shape)
        if self.num_oov_indices == 1:
            return indices
        unknown = indices < 0
        if not unknown.any():
            return indices
        tokens = self.keys(x[unknown])
        if self.num_oov_indices == 0:
            different = list(dict.fromkeys(tokens))
            shown = ", ".join(map(repr, different[:5]))
            raise ValueError(
                f"{type(self).__name__}: expected tokens of the vocabulary, since "
                f"num_oov_indices=0, received {shown}; pass num_oov_indices=1, or adapt to data "
                "that has them"
            )
        indices[unknown] = table.first_unknown + self.buckets(tokens)
        return indices

    def buckets(self, tokens: Sequence[Any]) -> np.ndarray:
        """Which of the indices of unknown tokens each of these has."""
        strings = [str(token).encode() for token in tokens]
        if self.salt is None:
            hashed = farm_hash(strings)
        else:
            hashed = sip_hash(strings, salt_pair(self.salt))
        return (hashed % np.uint64(self.num_oov_indices)).astype(np.int64)


def salt_pair(salt: Any) -> tuple[int, int]:
    """A salt as two integers."""
    if isinstance(salt, int):
        return salt, salt
    first, second = salt
    return int(first), int(second)


def check_salt(layer: Any) -> None:
    """Raises ValueError unless `salt` is None, an integer or two integers."""
    salt = layer.salt
    is_pair = isinstance(salt, tuple) and len(salt) == 2
    parts = salt if is_pair else (salt,)
    if salt is not None and not all(type(part) is int for part in parts):
        raise ValueError(
            f"{type(layer).__name__}: expected salt to be an integer or two integers, received "
            f"{salt!r}; e.g. salt=(133, 137)"
        )


def check_arguments(layer: Any) -> None:
    """Raises ValueError for arguments of a lookup that do not go together."""
    name = type(layer).__name__
    if layer.max_tokens is not None and layer.max_tokens <= 1:
        raise ValueError(
            f"{name}: expected max_tokens above 1, received {layer.max_tokens}; it counts the "
            "mask and unknown tokens too"
        )
    if layer.pad_to_max_tokens and layer.max_tokens is None:
        raise ValueError(
            f"{name}: expected max_tokens with pad_to_max_tokens=True, received None; pass it"
        )
    if layer.invert and layer.output_mode != "int":
        raise ValueError(
            f'{name}: expected output_mode="int" with invert=True, received '
            f"{layer.output_mode!r}; leave one of them out"
        )
    if layer.idf_weights is not None and layer.output_mode != "tf_idf":
        raise ValueError(
            f'{name}: expected idf_weights with output_mode="tf_idf" only, received them with '
            f"{layer.output_mode!r}; leave them out"
        )
    check_salt(layer)


class StringLookup(IndexLookup):
    """Strings to indices of a vocabulary, which is given or learned by `adapt`.

    Indices: the mask token (0, with output_mode="int" only), `num_oov_indices` for unknown
    tokens, then the tokens, the most frequent first, equally frequent ones in reverse order.
    Unknown tokens are distributed over several indices by FarmHash64, with `salt` by SipHash64.
    "one_hot", "multi_hot", "count" and "tf_idf" encode the indices as `CategoryEncoding` does;
    masked tokens are not counted. `invert=True` maps indices to tokens, an array of NumPy.
    In a model it runs in NumPy, ahead of the compiled part. Raises ValueError for unknown tokens
    with `num_oov_indices=0`, repeated tokens in `vocabulary`, and without a vocabulary.

    >>> layer = StringLookup(vocabulary=["a", "b", "c"])
    >>> layer([["c", "a"], ["z", "b"]]).tolist()
    [[3, 1], [0, 2]]
    >>> layer = StringLookup()
    >>> layer.adapt([["a", "c", "d"], ["d", "z", "b"]])
    >>> layer.get_vocabulary()
    ['[UNK]', 'd', 'z', 'c', 'b', 'a']
    """

    max_tokens: int | None = positive(default=None)
    num_oov_indices: int = not_negative(default=1)
    mask_token: str | None = None
    oov_token: str | None = "[UNK]"
    vocabulary: Any = vocabulary_field()
    idf_weights: Any = None
    invert: bool = False
    output_mode: str = mode(*MODES, default="int")
    pad_to_max_tokens: bool = False
    sparse: bool = False
    encoding: str = "utf-8"
    salt: Any = None

    def keys(self, array: np.ndarray) -> list[str]:
        return items_of(self, array, self.encoding)


class IntegerLookup(IndexLookup):
    """Integers to indices of a vocabulary, which is given or learned by `adapt`.

    As `StringLookup`, for tokens that are integers of 64 bits. With several indices for unknown
    tokens, `oov_method="floormod"` takes the remainder, "farmhash" hashes them as strings.

    >>> layer = IntegerLookup(vocabulary=[12, 36, 1138])
    >>> layer(np.array([[12, 1138], [7, 36]])).tolist()
    [[1, 3], [0, 2]]
    """

    is_of_strings = False

    max_tokens: int | None = positive(default=None)
    num_oov_indices: int = not_negative(default=1)
    mask_token: int | None = None
    oov_token: int | None = -1
    vocabulary: Any = vocabulary_field()
    vocabulary_dtype: str = one_of(("int64",), default="int64")
    idf_weights: Any = None
    invert: bool = False
    output_mode: str = mode(*MODES, default="int")
    sparse: bool = False
    pad_to_max_tokens: bool = False
    oov_method: str = one_of(("floormod", "farmhash"), default="floormod")
    salt: Any = None

    def validate(self) -> None:
        if self.salt is not None and self.oov_method != "farmhash":
            raise ValueError(
                'IntegerLookup: expected oov_method="farmhash" with salt, received '
                f"{self.oov_method!r}; pass it"
            )
        super().validate()

    def keys(self, array: np.ndarray) -> list[int]:
        if array.dtype.kind not in "iub":
            raise TypeError(
                f"IntegerLookup: expected integers, received {array.dtype}; "
                "use StringLookup for strings, and Discretization for floats"
            )
        items: list[int] = array.reshape(-1).tolist()
        return items

    def buckets(self, tokens: Sequence[int]) -> np.ndarray:
        if self.oov_method == "farmhash":
            return super().buckets(tokens)
        return np.array(tokens, np.int64) % self.num_oov_indices
