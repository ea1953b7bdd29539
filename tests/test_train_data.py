"""Corpora: reading R databases, paragraphs, the fixed held-out split, hashes, tokenizers, crops."""

import hashlib
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="needs the extra tritape[train]")

from tritape.base.errors import TritapeError  # noqa: E402
from tritape.model.data import default_model_path  # noqa: E402
from tritape.model.tokenizer import Tokenizer  # noqa: E402
from tritape.train.batches import Crops  # noqa: E402
from tritape.train.data import corpus as corpus_module  # noqa: E402
from tritape.train.data.corpus import AUSTEN_HELD_OUT, AUSTEN_HELD_OUT_SHA256, fetch_corpus, split  # noqa: E402
from tritape.train.data.rdata import read_texts  # noqa: E402
from tritape.train.data.sources import SOURCES, Source, paragraphs, plain  # noqa: E402
from tritape.train.tokenize import ALPHABET, encode_cached, save_tokenizer, train_tokenizer  # noqa: E402

TEXT = "It was a truth, universally acknowledged, that a man in possession of a fortune must want a wife.\n" * 40


def _rdb(vectors, version=3):
    """What R writes: XDR character vectors, each a length and a zlib stream."""
    out = b""
    for strings in vectors:
        block = b"X\n" + struct.pack(">iii", version, 0x40201, 0x30500)
        if version == 3:
            block += struct.pack(">i", 5) + b"UTF-8"
        block += struct.pack(">ii", 16, len(strings))
        for text in strings:
            data = text.encode()
            block += struct.pack(">ii", 0x40009, len(data)) + data
        out += struct.pack(">I", len(block)) + zlib.compress(block)
    return out


@given(st.lists(st.lists(st.text(max_size=20), max_size=5), max_size=3), st.sampled_from([2, 3]))
@settings(max_examples=50, deadline=None)
def test_rdata_reads_what_r_writes(tmp_path_factory, vectors, version):
    path = tmp_path_factory.mktemp("rdb") / "x.rdb"
    path.write_bytes(_rdb(vectors, version))
    assert read_texts(path) == vectors


@pytest.mark.parametrize("cut", [3, 12, 30])
def test_rdata_refuses_damage(tmp_path, cut):
    path = tmp_path / "x.rdb"
    path.write_bytes(_rdb([["some text"]])[:cut])
    with pytest.raises(TritapeError, match=r"x\.rdb: file must hold zlib blocks of R character vectors, not "):
        read_texts(path)


def test_rdata_refuses_other_objects(tmp_path):
    block = b"X\n" + struct.pack(">iii", 2, 0, 0) + struct.pack(">ii", 13, 0)
    path = tmp_path / "x.rdb"
    path.write_bytes(struct.pack(">I", len(block)) + zlib.compress(block))
    with pytest.raises(TritapeError, match="not an object of type 13"):
        read_texts(path)


def test_paragraphs_join_lines_and_drop_headings():
    lines = [
        "EMMA",
        "",
        "CHAPTER I",
        "",
        "Emma  Woodhouse, _handsome_,",
        "clever, and rich, £5",
        "",
        "* * *",
        "",
        "Finis",
    ]
    assert paragraphs(lines) == ["Emma Woodhouse, handsome, clever, and rich, 5", "* * *"]
    assert plain("“So—he’s…”") == '"So--he\'s..."'


def _novels():
    return [["Opening of a novel."] * 3 + [start + " and so on, until the end of it."] for start in AUSTEN_HELD_OUT]


def test_split_refuses_another_heldout_text():
    with pytest.raises(TritapeError, match=f"SHA-256 of the held-out text must be {AUSTEN_HELD_OUT_SHA256}, not "):
        split("austen", _novels())
    with pytest.raises(TritapeError, match='a paragraph must start with \'"Oh!" cried Jane'):
        split("austen", [["Nothing of the kind."], *_novels()[1:]])


@pytest.mark.parametrize("shared", [None, (0, 79), (0, 82), (79, 82)])  # a paragraph, and where it stands again
def test_novels_split_into_three_parts_without_common_paragraphs(monkeypatch, shared):
    novels = []
    for start in AUSTEN_HELD_OUT:
        novel = [f"Paragraph {n} before {start} and some more words, so that it is a long one." for n in range(80)]
        novels.append([*novel, f"{start} and so on, until the end of it.", *(["The end came, and went."] * 4)])
    if shared is not None:
        novels[1][shared[1]] = novels[1][shared[0]]
    heldout = "\n".join("\n".join(novel[80:]) for novel in novels) + "\n"
    digest = hashlib.sha256(heldout.encode()).hexdigest()
    monkeypatch.setattr(corpus_module, "AUSTEN_HELD_OUT_SHA256", digest)
    if shared is not None:
        with pytest.raises(
            TritapeError, match=r"the parts must not share a paragraph, not 'Paragraph .*; move the cut"
        ):
            split("austen", novels)
        return
    corpus = split("austen", novels)
    assert corpus.heldout == heldout
    parts = [part.rstrip("\n").split("\n") for part in (corpus.train.replace("\n\n", "\n"), corpus.valid)]
    assert sorted(parts[0] + parts[1]) == sorted(paragraph for novel in novels for paragraph in novel[:80])
    assert parts[1] == [paragraph for novel in novels for paragraph in novel[78:80]]


def test_heldout_hash_is_that_of_the_starter():
    text = (default_model_path() / "heldout.txt").read_bytes()
    assert hashlib.sha256(text).hexdigest() == AUSTEN_HELD_OUT_SHA256


def test_split_keeps_every_paragraph_of_other_sources_once():
    document = [f"Paragraph number {n} of a longer text." for n in range(500)]
    corpus = split("sotu", [document])
    assert (corpus.train + corpus.valid + corpus.heldout).split("\n") == document
    for part in (corpus.valid, corpus.heldout):
        assert 0.01 < len(part) / len(corpus.train) < 0.03


def test_fetch_checks_hashes_and_writes_a_manifest(tmp_path, monkeypatch):
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    (downloads / "a.pkg").write_bytes(b"data")
    digest = hashlib.sha256(b"data").hexdigest()
    document = [f"Paragraph number {n} of a longer text." for n in range(100)]
    source = Source("a", "a.pkg", digest, ("false",), "CC0", "a text", lambda path: [document])
    monkeypatch.setitem(SOURCES, "a", source)
    manifest = fetch_corpus(["a"], tmp_path / "corpus", downloads)
    written = (tmp_path / "corpus" / "a.train.txt").read_bytes()
    assert manifest["a"]["train"] == {"bytes": len(written), "sha256": hashlib.sha256(written).hexdigest()}
    assert manifest["a"]["licence"] == "CC0"
    (downloads / "a.pkg").write_bytes(b"other")
    with pytest.raises(TritapeError, match=rf"a\.pkg: SHA-256 must be {digest}, not .*; delete the file"):
        fetch_corpus(["a"], tmp_path / "corpus", downloads)
    (downloads / "a.pkg").unlink()
    with pytest.raises(TritapeError, match=r"source a: `false` must leave a\.pkg, not end with 'no message'"):
        fetch_corpus(["a"], tmp_path / "corpus", downloads)
    with pytest.raises(TritapeError, match=r"source must be one of austen, .*, not 'b'"):
        fetch_corpus(["b"], tmp_path / "corpus", downloads)


@given(st.text(alphabet=ALPHABET, max_size=60))
@settings(max_examples=50, deadline=None)
def test_tokenizer_inverts_on_its_alphabet(tokenizer_file, text):
    codec = Tokenizer(tokenizer_file, 160)
    assert codec.decode(codec.encode(text)) == text


@pytest.fixture(scope="module")
def tokenizer_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    save_tokenizer(train_tokenizer([TEXT], 160), path)
    return path


def test_tokenizer_folds_what_it_cannot_spell(tokenizer_file):
    codec = Tokenizer(tokenizer_file)
    assert codec.decode(codec.encode("“café” — 猫\t")) == '"cafe" -- ? '


def test_tokenizer_is_reproducible_and_of_the_asked_size(tokenizer_file, tmp_path):
    save_tokenizer(train_tokenizer([TEXT], 160), tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == tokenizer_file.read_bytes()
    with pytest.raises(TritapeError, match="vocabulary must be at least 128, not 100"):
        train_tokenizer([TEXT], 100)
    with pytest.raises(TritapeError, match="texts must fill a vocabulary of 5000, not "):
        train_tokenizer([TEXT], 5000)


def test_encoding_is_cached_by_content(tokenizer_file, tmp_path):
    ids = encode_cached(tokenizer_file, TEXT, tmp_path)
    assert ids.tolist() == Tokenizer(tokenizer_file).encode(TEXT)
    assert encode_cached(tokenizer_file, TEXT, tmp_path).tolist() == ids.tolist()
    assert len(list(tmp_path.iterdir())) == 1
    encode_cached(tokenizer_file, TEXT + "More.\n", tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


@given(st.integers(2, 40), st.integers(1, 9), st.integers(1, 4), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_crops_cover_every_epoch_once_inside_the_text(cuts, sequence, batch, seed):
    tokens = (max(cuts, batch) + 1) * sequence + 1
    crops, again = (Crops(tokens, sequence, batch, seed) for _ in range(2))
    steps = 3 * crops.count // batch
    starts = np.concatenate([crops.starts(step) for step in range(steps)])
    assert starts.min() >= 0
    assert starts.max() + sequence + 1 <= tokens
    for epoch in range(len(starts) // crops.count):
        part = starts[epoch * crops.count : (epoch + 1) * crops.count]
        assert len(np.unique(part)) == crops.count
        assert len(np.unique(part % sequence)) == 1
    assert again.starts(steps - 1).tolist() == crops.starts(steps - 1).tolist()


def test_crops_refuse_too_little_text():
    with pytest.raises(TritapeError, match="corpus must hold 50 tokens for one batch, not 20"):
        Crops(20, 7, 6, 0)
