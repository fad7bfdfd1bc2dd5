"""From files to tokens: sections, tokenizer and shards."""

import json
import lzma
import socket
from pathlib import Path

import numpy as np
import pytest

from trlm_retrieval.errors import DataError, ModelError
from trlm_retrieval.training.corpus import PairFile, Section, read_pairs, read_sections
from trlm_retrieval.training.pretraining import Windows
from trlm_retrieval.training.shards import Shards, pack
from trlm_retrieval.training.tokenizer import load_tokenizer, train_tokenizer


def test_all_kinds_of_files_are_read(tmp_path):
    with lzma.open(tmp_path / "a.jsonl.xz", "wt") as file:
        file.write(json.dumps({"query": "q", "passage": " p "}) + "\n")
    (tmp_path / "b.jsonl").write_text('{"title": "t", "text": "x"}\n{"text": "y"}\n{"text": " "}\n')
    (tmp_path / "c.txt").write_text("plain\n")
    files = [tmp_path / name for name in ("a.jsonl.xz", "b.jsonl", "c.txt")]
    assert list(read_sections(files)) == [
        Section("q", "p"),
        Section("t", "x"),
        Section("", "y"),
        Section("", "plain"),
    ]
    assert Section("t", "x").running_text == "t\n\nx"


@pytest.mark.parametrize("line", ['{"query": "q"}', '{"text": 3}', '{"text": "x", "title": []}'])
def test_a_bad_line_is_named(tmp_path, line):
    (tmp_path / "bad.jsonl").write_text('{"text": "x"}\n' + line)
    with pytest.raises(DataError, match=r"bad\.jsonl, line 2"):
        list(read_sections([tmp_path / "bad.jsonl"]))


def test_a_file_cut_short_is_named(tmp_path):
    whole = lzma.compress(b'{"text": "x"}\n' * 1000)
    (tmp_path / "cut.jsonl.xz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cut\.jsonl\.xz is cut short"):
        list(read_sections([tmp_path / "cut.jsonl.xz"]))


def test_held_out_pairs_are_never_learned(pair_file):
    learned, held_out = (read_pairs([pair_file], held_out=held) for held in (False, True))
    assert len(learned) + len(held_out) == 400 and held_out
    assert not {passage for _, passage in learned} & {passage for _, passage in held_out}


def test_each_file_gives_an_even_part_of_itself(pair_file, tmp_path):
    (tmp_path / "few.jsonl").write_text('{"query": "q", "passage": "p"}\n')
    every = read_pairs([pair_file], held_out=False)
    few = PairFile.parse(str(tmp_path / "few.jsonl:10"))
    assert (few.path, few.most) == (tmp_path / "few.jsonl", 10)
    some = read_pairs([PairFile(pair_file.path, 10), few], held_out=False)
    assert len(some) == 11 and some[-1] == ("q", "p")
    places = [every.index(pair) for pair in some[:-1]]
    assert max(np.diff(places)) - min(np.diff(places)) <= 1 and places[-1] > 0.8 * len(every)


def test_text_comes_back_from_its_tokens(made_up):
    tokenizer = train_tokenizer(made_up(50), 400)
    for text in ("The tree of 1999.\n\ttabs  and ünïcödé 漢字 🎻", "<|reverse|>"):
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text
    assert len(tokenizer) <= 400
    with pytest.raises(ValueError, match="300 to 65,536"):
        train_tokenizer([], 100)


def test_shards_hold_every_token_of_every_text(tmp_path, made_up):
    sections = made_up(300)
    tokenizer = train_tokenizer(sections, 400)
    counts = pack(sections, tokenizer, tmp_path, shard_tokens=1000)
    assert len(list(tmp_path.glob("train-*.bin"))) > 3
    for split in ("train", "held_out"):
        shards = Shards(tmp_path, split)
        assert len(shards) == counts[split]
        texts = tokenizer.decode(shards.read(0, len(shards))).split("<|end|>")[:-1]
        assert texts == [s.running_text for s in sections if s.held_out == (split == "held_out")]
        end = len(shards)
        parts = [shards.read(start, min(start + 77, end)) for start in range(0, end, 77)]
        assert np.array_equal(np.concatenate(parts), shards.read(0, end))


def test_damaged_shards_are_named(tmp_path, shards, made_up):
    with pytest.raises(ModelError, match="trlm train tokenizer"):
        load_tokenizer(tmp_path)
    sections = made_up(200)
    pack(sections, train_tokenizer(sections, 400), tmp_path)
    (tmp_path / "train-00000.bin").write_bytes(b"12")
    with pytest.raises(DataError, match=r"train-00000\.bin is missing or damaged"):
        Shards(tmp_path, "train")
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(DataError, match="no finished shards"):
        Shards(tmp_path, "train")


def test_no_hub_is_asked_about_a_path(tmp_path, monkeypatch):
    """`empty/tokenizer` could be the id of a hub's model; asking takes most of a minute offline."""
    asked = []

    def refuse(host, *arguments, **named):
        asked.append(host)
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="trlm train tokenizer"):
        load_tokenizer(Path("empty/tokenizer"))
    assert not asked


@pytest.mark.parametrize("orders", [("reverse",), ("reverse", "forward")])
def test_windows_hold_the_text_in_their_order(shards, orders):
    data = Shards(shards, "train")
    starts = {order: data.tokenizer.convert_tokens_to_ids(f"<|{order}|>") for order in orders}
    windows = Windows(data, starts, context=16, rows=4, seed=0)
    text = data.read(0, len(data)).tolist()
    there = {tuple(text[i : i + 16]) for i in range(0, len(text) - 15, 16)}
    seen = []
    for index in range(len(text) // 16 // 4):
        batch = windows.batch(index)
        for row, targets in zip(batch.inputs["input_ids"], batch.targets.view(4, 16), strict=True):
            assert row[1:].tolist() == targets[:-1].tolist()
            step = -1 if row[0] == starts["reverse"] else 1
            seen.append(tuple(targets.tolist()[::step]))
            assert seen[-1] in there
    assert len(set(seen)) > 0.9 * len(seen)
    kinds = {int(windows.batch(i).inputs["input_ids"][r, 0]) for i in range(3) for r in range(4)}
    assert kinds == set(starts.values())
