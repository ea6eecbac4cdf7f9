"""Captions through tiny text encoders: what diffusers' own pipelines make of them."""

import pytest
import torch
from safetensors.torch import load_file

from aqueduct.core.data.buckets import SizeSettings
from aqueduct.core.data.clips import find
from aqueduct.core.data.dataset import LatentDataset
from aqueduct.core.data.encoders import Pixels
from aqueduct.core.data.prepare import PrepareSettings, prepare
from aqueduct.core.data.survey import ClipSettings
from aqueduct.core.data.texts import NULL, TextEncoder
from aqueduct.tests.unit.data_videos import write_video

transformers = pytest.importorskip("transformers")

WORDS = ["<pad>", "</s>", "<unk>", "a", "cat", "dog", "runs"]


def save_tokenizer(folder):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    inner = Tokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)


@pytest.fixture(scope="module")
def t5(tmp_path_factory):
    """(pipeline folder, network)"""
    folder = tmp_path_factory.mktemp("t5")
    torch.manual_seed(0)
    config = transformers.T5Config(vocab_size=8, d_model=8, d_kv=4, d_ff=8, num_layers=2, num_heads=2)
    network = transformers.T5EncoderModel(config).eval()
    network.save_pretrained(folder / "text_encoder")
    save_tokenizer(folder / "tokenizer")
    return folder, network


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """(pipeline folder, both networks), as SDXL has them"""
    folder, networks = tmp_path_factory.mktemp("clips"), []
    kinds = {"": transformers.CLIPTextModel, "_2": transformers.CLIPTextModelWithProjection}
    for (part, kind), width in zip(kinds.items(), (8, 12), strict=True):
        torch.manual_seed(width)
        config = transformers.CLIPTextConfig(
            vocab_size=8, hidden_size=width, intermediate_size=16, num_hidden_layers=3, num_attention_heads=2,
            projection_dim=5, max_position_embeddings=16, eos_token_id=1, bos_token_id=0, pad_token_id=0,
        )  # fmt: skip
        networks.append(kind(config).eval())
        networks[-1].save_pretrained(folder / f"text_encoder{part}")
        save_tokenizer(folder / f"tokenizer{part}")
    return folder, networks


IDS = torch.tensor([[3, 4, 6, 1, 0, 0]])  # "a cat runs", its end, and padding


def test_one_encoder_sees_the_padding_too(t5):
    folder, network = t5
    text = TextEncoder(str(folder), tokens=6, device="cpu")
    told = text("a cat runs")
    with torch.no_grad():
        expected = network(IDS)[0][0]
    assert set(told) == {"context"} and tuple(told["context"].shape) == text.shapes()["context"] == (6, 8)
    torch.testing.assert_close(told["context"], expected)


def test_masked_padding_is_zero_and_changes_nothing(t5):
    folder, network = t5
    told = TextEncoder(str(folder), tokens=6, masked=True, device="cpu")("a cat runs")["context"]
    with torch.no_grad():
        alone = network(IDS[:, :4])[0][0]
    torch.testing.assert_close(told[:4], alone, atol=1e-5, rtol=1e-5)
    assert not told[4:].any()


def test_long_captions_are_cut(t5):
    text = TextEncoder(str(t5[0]), tokens=3, device="cpu")
    assert torch.equal(text("a cat runs a dog runs")["context"], text("a cat")["context"])
    assert not torch.equal(text("a dog")["context"], text("a cat")["context"])


def test_two_encoders_lie_side_by_side(clips):
    folder, (first, second) = clips
    text = TextEncoder(str(folder), ("", "_2"), tokens=6, skip=1, device="cpu")
    told = text("a cat runs")
    with torch.no_grad():
        outputs = [network(IDS, output_hidden_states=True) for network in (first, second)]
    expected = torch.cat([output.hidden_states[-2] for output in outputs], -1)[0]
    torch.testing.assert_close(told["context"], expected)
    torch.testing.assert_close(told["pooled"], outputs[1].text_embeds[0])
    assert {name: tuple(value.shape) for name, value in told.items()} == text.shapes()


def test_captions_are_prepared_beside_the_latents(t5, tmp_path):
    for name, caption in {"a": "a cat runs", "b": None}.items():
        write_video(tmp_path / "videos" / f"{name}.mp4", frames=4, size=(16, 16))
        if caption:
            (tmp_path / "videos" / f"{name}.txt").write_text(caption)
    text = TextEncoder(str(t5[0]), tokens=6, device="cpu")
    settings = PrepareSettings(ClipSettings((4,)), SizeSettings(16, 16), text=text, dtype="float32")
    index = prepare(find(tmp_path / "videos"), settings, Pixels(), tmp_path / "out")
    dataset = LatentDataset.open(tmp_path / "out")
    assert torch.equal(dataset[0]["context"], text("a cat runs")["context"])
    assert torch.equal(dataset.batch([0, 1], ["context"])["context"][1], text("")["context"])
    assert torch.equal(load_file(tmp_path / "out" / NULL)["context"], text("")["context"])
    assert index.settings["text"] == text.describe()
    before = (tmp_path / "out" / NULL).stat().st_mtime_ns
    prepare(find(tmp_path / "videos"), settings, Pixels(), tmp_path / "out")
    assert (tmp_path / "out" / NULL).stat().st_mtime_ns == before


def test_what_is_no_pipeline_is_told(tmp_path):
    with pytest.raises(
        FileNotFoundError, match="text_encoder.*does not exist: folder is where diffusers saved a whole"
    ):
        TextEncoder(str(tmp_path)).shapes()
    with pytest.raises(ValueError, match="precision is float32"):
        TextEncoder(str(tmp_path), precision="int8")
