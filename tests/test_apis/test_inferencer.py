"""``DeLVMInferencer``: what it takes, what it returns and writes, and errors a user can read."""

import json

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image
from pycocotools import mask as coco_mask

from delvm_mm.apis import DeLVMInferencer
from delvm_mm.apis.images import ImageReader, read_prompt_folder
from delvm_mm.apis.model_loading import find_config
from delvm_mm.codecs import ForegroundMaskCodec
from delvm_mm.datasets import ProceduralScenes
from delvm_mm.generation import ImageLayout
from delvm_mm.models import delvm_from_huggingface
from delvm_mm.visualization import draw_overlay
from helpers.layouts_names import COMPOSED, DECOMPOSED


@pytest.fixture(scope="module")
def inferencer(tiny_model):
    return DeLVMInferencer(tiny_model.config, tiny_model.weights, device="cpu", show_progress=False)


@pytest.fixture(scope="module")
def scenes():
    """Twelve images of 48 x 40 pixels (width x height), uint8."""
    source = ProceduralScenes(task="derain", size=48, length=12)
    return [np.ascontiguousarray(source[index]["img"][:40]) for index in range(12)]


@pytest.fixture(scope="module")
def prompt(scenes):
    return [(scenes[0], scenes[1]), (scenes[2], scenes[3])]


def cut(image):
    """The center of a 48 x 40 image at 32 px, by Pillow alone: 38 x 32 after resizing, 3 columns cut on the left."""
    return np.asarray(Image.fromarray(image).resize((38, 32), Image.Resampling.BILINEAR))[:, 3:35]


def tokens_of(inferencer, images):
    pixels = torch.from_numpy(np.stack([cut(image) for image in images])).permute(0, 3, 1, 2).float() / 255
    return inferencer.model.tokenizer.encode(pixels)


def test_the_answer_is_what_the_model_writes_after_the_pairs_and_the_query(inferencer, scenes, prompt):
    result = inferencer(scenes[4], prompt)
    sentence = tokens_of(inferencer, scenes[:5]).view(1, -1)
    expected = inferencer.model.generate(sentence, 64)[0].numpy()
    (prediction,) = result["predictions"]
    np.testing.assert_array_equal(prediction["tokens"], expected)
    assert prediction["image"].shape == (32, 32, 3) and prediction["image"].dtype == np.uint8
    assert prediction["task"] is None and prediction["path"] is None and prediction["seconds"] > 0


def test_arrays_files_and_pil_images_give_the_same_answer(inferencer, scenes, prompt, tmp_path):
    path = tmp_path / "query.png"
    Image.fromarray(scenes[4]).save(path)
    queries = [scenes[4], str(path), path, Image.fromarray(scenes[4])]
    result = inferencer(queries, prompt, return_vis=False)
    assert all((one["image"] == result["predictions"][0]["image"]).all() for one in result["predictions"])
    assert result["predictions"][1]["path"] == str(path) and result["visualization"] == []


def test_batches_of_any_size_give_the_same_greedy_answers_in_order(inferencer, scenes, prompt):
    alone = [inferencer(scene, prompt)["predictions"][0]["tokens"] for scene in scenes[4:9]]
    together = inferencer(scenes[4:9], prompt, batch_size=3)["predictions"]
    np.testing.assert_array_equal([one["tokens"] for one in together], alone)


def test_each_task_reads_its_structure(inferencer, scenes, prompt):
    (mask,) = inferencer(scenes[4], prompt, task="seg")["predictions"]
    np.testing.assert_array_equal(mask["mask"], ForegroundMaskCodec().decode(mask["image"]))
    (pose,) = inferencer(scenes[4], prompt, task="pose")["predictions"]
    assert pose["keypoints"].shape == (1, 17, 2) and pose["keypoint_scores"].shape == (1, 17)
    (derain,) = inferencer(scenes[4], prompt, task="derain")["predictions"]
    assert not {"mask", "keypoints", "decoded"} & set(derain)
    (own,) = inferencer(scenes[4], prompt, task=dict(type="ForegroundMaskCodec", threshold=0.1))["predictions"]
    assert own["mask"].sum() >= mask["mask"].sum() and own["task"] == "ForegroundMaskCodec"


def test_the_crop_maps_the_answer_back_into_the_users_image(inferencer, scenes, prompt):
    (pose,) = inferencer(scenes[4], prompt, task="pose")["predictions"]
    crop = pose["crop"]
    # 48 x 40 becomes 38 x 32: 0.8 down, 38/48 across; three columns are cut off on the left.
    assert crop["original_size"] == [48, 40] and crop["offset"] == [3, 0]
    np.testing.assert_allclose(crop["scale"], [38 / 48, 0.8])
    np.testing.assert_allclose(crop["box"], [3 * 48 / 38, 0, 35 * 48 / 38, 40], atol=1e-3)
    expected = (pose["keypoints"] + [3.5, 0.5]) / crop["scale"] - 0.5
    np.testing.assert_allclose(pose["keypoints_original"], expected, atol=1e-4)


def test_a_seed_repeats_a_draw_and_temperature_0_is_greedy(inferencer, scenes, prompt):
    def answer(**options):
        return inferencer(scenes[4], prompt, **options)["predictions"][0]["tokens"].tolist()

    assert answer(temperature=1.0, seed=3) == answer(temperature=1.0, seed=3)
    assert answer(temperature=1.0, seed=3) != answer(temperature=1.0, seed=4)
    assert answer(temperature=0.0, seed=3) == answer() == answer(temperature=1.0, top_k=1)


def test_every_token_is_reported_and_rows_show_while_they_are_written(inferencer, scenes, prompt):
    seen = []
    result = inferencer(scenes[4], prompt, on_token=lambda index, tokens: seen.append((index, tokens.item())))
    tokens = result["predictions"][0]["tokens"].tolist()
    assert seen == list(enumerate(tokens))
    half = inferencer.generator.unfinished_image(torch.tensor(tokens[:35]))  # four rows of eight, and three tokens
    assert (half[16:] == 128).all() and not (half[:16] == 128).all()


def test_files_are_written_and_read_back(inferencer, scenes, prompt, tmp_path):
    result = inferencer([scenes[4], scenes[5]], prompt, task="seg", out_dir=tmp_path / "out")
    files = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*"))
    names = ("query_0001", "query_0002")
    kinds = (("images", "png"), ("masks", "png"), ("original", "png"), ("predictions", "json"), ("vis", "png"))
    assert files == [f"{folder}/{name}.{suffix}" for folder, suffix in kinds for name in names]
    for name, prediction, panel in zip(names, result["predictions"], result["visualization"], strict=True):
        content = json.loads((tmp_path / f"out/predictions/{name}.json").read_text())
        image = np.asarray(Image.open(tmp_path / "out" / content["image"]))
        np.testing.assert_array_equal(image, prediction["image"])
        np.testing.assert_array_equal(coco_mask.decode(content["mask"]), prediction["mask"])
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / f"out/vis/{name}.png")), panel)
        assert content["crop"] == prediction["crop"] and content["task"] == "seg"


def test_queries_of_one_name_do_not_overwrite_each_other(inferencer, scenes, prompt, tmp_path):
    for folder, scene in zip("ab", scenes[4:], strict=False):
        (tmp_path / folder).mkdir()
        Image.fromarray(scene).save(tmp_path / folder / "1.png")
    inferencer([tmp_path / "a", tmp_path / "b"], prompt, task="pose", out_dir=tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out" / "predictions").iterdir()) == ["1.json", "1_2.json"]
    keypoints = json.loads((tmp_path / "out/predictions/1_2.json").read_text())["keypoints"]
    assert np.shape(keypoints) == (1, 17, 2)


def test_data_samples_hold_the_same(inferencer, scenes, prompt):
    (sample,) = inferencer(scenes[4], prompt, task="seg", return_datasamples=True)["predictions"]
    (plain,) = inferencer(scenes[4], prompt, task="seg")["predictions"]
    np.testing.assert_array_equal(sample.pred_image, plain["image"])
    np.testing.assert_array_equal(sample.mask, plain["mask"])
    assert sample.metainfo["task"] == "seg" and sample.metainfo["box"] == plain["crop"]["box"]


def test_an_image_is_finished_from_its_first_rows(inferencer, scenes):
    (prediction,) = inferencer.complete(scenes[4], keep=0.3)["predictions"]  # 2.4 of 8 rows: two
    kept = tokens_of(inferencer, [scenes[4]])[:, :16]
    expected = torch.cat([kept, inferencer.model.generate(kept, 48)], 1)[0].numpy()
    np.testing.assert_array_equal(prediction["tokens"], expected)
    assert prediction["kept_rows"] == 8


@pytest.mark.parametrize("keep", [0, 1, 0.01, 0.99, -1, float("nan")])
def test_keeping_nothing_or_everything_is_refused(inferencer, scenes, keep):
    with pytest.raises(ValueError, match=r"expected 0\.125 to 0\.875"):
        inferencer.complete(scenes[4], keep=keep)


def test_whatever_is_asked_drafts_know_where_images_lie(inferencer, scenes, prompt, monkeypatch):
    layouts, engine = [], inferencer.model._engine
    plain = engine.generate
    monkeypatch.setattr(engine, "generate", lambda *given, layout, **named: layouts.append(layout) or plain(*given))
    monkeypatch.setattr(inferencer.model, "generation", {})
    inferencer(scenes[4], prompt, temperature=0)
    inferencer.complete(scenes[4], keep=0.5, temperature=0)
    inferencer.continue_frames(scenes[:2], n=1, temperature=0)
    images = torch.from_numpy(np.stack([cut(image) for image in scenes[:3]])).permute(0, 3, 1, 2).float() / 255
    inferencer.model.predict(images[None])
    assert layouts == [ImageLayout(8, 8)] * 4


def test_frames_are_written_into_the_context_and_then_slide(inferencer, scenes):
    predictions = inferencer.continue_frames(scenes[:6], n=4)["predictions"]
    history = list(tokens_of(inferencer, scenes[:6]))
    for number, prediction in enumerate(predictions):  # each by itself, from the last seven frames
        expected = inferencer.model.generate(torch.cat(history[-7:])[None], 64)[0]
        np.testing.assert_array_equal(prediction["tokens"], expected.numpy())
        assert prediction["name"] == f"frame_{7 + number:04d}"
        history.append(expected)
    assert [one["frames_seen"] for one in predictions] == [6, 7, 7, 7]
    assert [one["frames_dropped"] for one in predictions] == [0, 0, 1, 2]


def test_a_seed_draws_other_numbers_for_each_frame(inferencer, scenes):
    options = dict(temperature=5.0, seed=0)
    predictions = inferencer.continue_frames([scenes[0]] * 12, n=2, **options)["predictions"]
    assert (predictions[0]["tokens"] != predictions[1]["tokens"]).any()


def test_frames_of_a_folder_come_in_the_order_of_their_numbers(inferencer, scenes, tmp_path):
    for number in (1, 2, 10):
        Image.fromarray(scenes[number]).save(tmp_path / f"frame{number}.png")
    (of_folder,) = inferencer.continue_frames(tmp_path)["predictions"]
    (of_list,) = inferencer.continue_frames([scenes[1], scenes[2], scenes[10]])["predictions"]
    np.testing.assert_array_equal(of_folder["tokens"], of_list["tokens"])


def test_damaged_queries_stop_or_are_skipped_by_name(inferencer, scenes, prompt, tmp_path):
    Image.fromarray(scenes[4]).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_text("no image")
    with pytest.raises(ValueError, match=r"bad\.png is not an image"):
        inferencer(tmp_path, prompt)
    result = inferencer(tmp_path, prompt, on_error="skip")
    assert [one["name"] for one in result["predictions"]] == ["good"]
    assert [one["name"] for one in result["skipped"]] == [str(tmp_path / "bad.png")]


def test_iterating_gives_the_same_batch_by_batch(inferencer, scenes, prompt):
    whole = inferencer(scenes[4:9], prompt)["predictions"]
    parts = list(inferencer.iterate(scenes[4:9], prompt, batch_size=2))
    assert [len(part["predictions"]) for part in parts] == [2, 2, 1]
    flat = [one["tokens"].tolist() for part in parts for one in part["predictions"]]
    assert flat == [one["tokens"].tolist() for one in whole]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (dict(prompt=[]), ValueError, "prompt is empty"),
        (dict(prompt=[np.zeros((4, 4, 3), np.uint8)]), TypeError, "pair 1 of the prompt is a ndarray"),
        (dict(prompt="nowhere"), FileNotFoundError, "no folder of prompt pairs at nowhere"),
        (dict(task="depth"), ValueError, "there is no task 'depth'; expected one of"),
        (dict(query="gone.png"), FileNotFoundError, r"gone\.png"),
        (dict(query=[]), ValueError, "query is empty"),
        (dict(query=3), TypeError, "query is a int"),
        (dict(query=np.zeros((4, 4, 3))), TypeError, "float64, expected uint8"),
        (dict(query=np.zeros((1, 4000, 3), np.uint8)), ValueError, "more than 100 times its"),
        (dict(batch_size=0), ValueError, "batch_size is 0"),
        (dict(on_error="ignore"), ValueError, "'stop' or 'skip'"),
        (dict(temprature=1.0), TypeError, "did you mean 'temperature'"),
        (dict(temperature=-1.0), ValueError, "temperature is -1"),
        (dict(top_p=2.0), ValueError, r"top_p is 2\.0"),
    ],
)
def test_bad_input_is_named(inferencer, scenes, prompt, change, error, message):
    arguments = dict(query=scenes[4], prompt=prompt) | change
    with pytest.raises(error, match=message):
        inferencer(**arguments)


def test_too_many_pairs_are_refused_with_the_number_that_fits(inferencer, scenes, prompt):
    with pytest.raises(ValueError, match="give at most 3 pairs"):
        inferencer(scenes[4], prompt * 2)


def test_more_pairs_than_fit_are_answered_as_an_ensemble(inferencer, scenes, prompt):
    pairs = [*prompt, (scenes[5], scenes[6]), (scenes[7], scenes[8])]
    result = inferencer([scenes[4], scenes[9]], pairs, task="seg", ensemble=2)
    rows = torch.cat(
        [tokens_of(inferencer, [scenes[n] for n in (0, 1, 5, 6, q, 2, 3, 7, 8, q)]).view(2, -1) for q in (4, 9)]
    )
    expected = inferencer.model.generate(rows, 64, ensemble_size=2).numpy()
    np.testing.assert_array_equal([one["tokens"] for one in result["predictions"]], expected)
    (voted,) = inferencer(scenes[4], pairs, task="seg", ensemble=dict(size=2, combine="vote"))["predictions"]
    assert voted["tokens"].shape == (2, 64) and voted["mask"].shape == voted["image"].shape[:2]
    seen = inferencer.pipeline(scenes[4]).pixels
    np.testing.assert_array_equal(voted["overlay"], draw_overlay(seen, voted["mask"], ForegroundMaskCodec()))
    with pytest.raises(ValueError, match="2 prompts of the ensemble has 4 pairs"):
        inferencer(scenes[4], pairs * 2, ensemble=2)


@pytest.mark.parametrize("values", [[0, 1], [1, 2, 3], [0, 1, 255], [0, 19]])
@pytest.mark.parametrize("kind", ["file", "array", "colors", "PIL"])
def test_a_mask_or_trimap_as_a_label_is_refused(tmp_path, values, kind):
    label = np.resize(np.array(values, np.uint8), (8, 8))
    path = tmp_path / "trimap.png"
    Image.fromarray(label).save(path)
    given = dict(file=path, array=label, colors=np.repeat(label[..., None], 3, 2), PIL=Image.fromarray(label))[kind]
    where = r" \(.*trimap\.png\)" if kind == "file" else ""
    with pytest.raises(ValueError, match=rf"the label of pair 1{where} holds the values {values[0]}, {values[1]}"):
        ImageReader(8).pair(np.zeros((8, 8, 3), np.uint8), given, "pair 1")


def test_drawn_labels_are_taken():
    image, white = np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8)
    white[2:5] = 255
    palette = Image.fromarray((white > 0).astype(np.uint8), "P")
    palette.putpalette([0, 0, 0, 255, 255, 255])
    for label in (image, white, Image.fromarray(white > 0), palette, np.full_like(image, (0, 3, 9))):
        ImageReader(8).pair(image, label, "pair 1")


def test_halves_of_a_pair_in_a_prompt_folder_may_have_accents_of_two_forms(tmp_path):
    names = f"{COMPOSED}_img.png", f"{DECOMPOSED}_label.png"
    for name in names:
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    assert read_prompt_folder(tmp_path) == [tuple(tmp_path / name for name in names)]


def test_a_second_image_of_one_pair_in_a_prompt_folder_is_refused(tmp_path):
    for name in ("0_img.png", "0_label.png", "0_img.jpg"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    with pytest.raises(ValueError, match=r"0_img\.jpg and .*0_img\.png are both the image of one pair"):
        read_prompt_folder(tmp_path)


def test_a_padded_image_is_seen_whole_and_maps_back():
    image = np.zeros((8, 16, 3), np.uint8)
    image[:, 8:] = 200
    seen = ImageReader(8)(image, fit="pad")
    assert seen.pixels[2:6, 5:].min() == 200 and not seen.pixels[[0, 1, 6, 7]].any()
    assert seen.crop() == dict(original_size=[16, 8], scale=[0.5, 0.5], offset=[0, -2], box=[0, 0, 16, 8])
    # Pixel 2 there is pixels 4 and 5 of the file, and row 2 its rows 0 and 1.
    assert seen.to_original([2, 2]).tolist() == [4.5, 0.5]
    mask = np.zeros((8, 8), np.uint8)
    mask[2:4, 4:] = 1
    back = np.zeros((8, 16), np.uint8)
    back[:4, 8:] = 1
    assert np.array_equal(seen.image_to_original(mask), back)


@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_a_box_of_the_query_is_looked_at_and_all_else_is_zero(fit):
    image = np.zeros((20, 30, 3), np.uint8)
    image[4:12, 10:18] = 100
    seen = ImageReader(8)(image, fit=fit, bbox=[10.4, 4, 17.3, 12])
    assert (seen.pixels == 100).all() and seen.crop()["box"] == [10, 4, 18, 12]
    assert np.array_equal(seen.image_to_original(seen.pixels), image)
    assert np.array_equal(seen.image_to_original(np.ones((8, 8), np.int32)), image[..., 0] / 100)


@pytest.mark.parametrize("bbox", [[1, 2, 1, 4], [40, 0, 50, 9], [0, 0, 5], [0, 0, float("nan"), 4]])
def test_a_box_outside_the_image_is_refused(bbox):
    with pytest.raises(ValueError, match=r"bbox of image is .*expected x1, y1, x2, y2 .* 30x20"):
        ImageReader(8)(np.zeros((20, 30, 3), np.uint8), bbox=bbox)


def test_answers_are_given_at_the_size_of_the_query_too(inferencer, scenes, prompt):
    options = dict(task="seg", fit="pad", bbox=[[0, 0, 48, 40], [4, 4, 24, 24]])
    answers = inferencer([scenes[4], scenes[5]], prompt, **options)["predictions"]
    for answer in answers:
        assert answer["image_original"].shape == (40, 48, 3) and answer["mask_original"].shape == (40, 48)
    assert answers[0]["crop"]["box"] == [0, 0, 48, 40] and answers[1]["crop"]["box"] == [4, 4, 24, 24]
    assert not answers[1]["mask_original"][24:].any() and not answers[1]["image_original"][:, :4].any()
    small = inferencer(scenes[4], prompt, task="seg", original=False)["predictions"][0]
    assert not [key for key in small if key.endswith("_original")]
    with pytest.raises(ValueError, match="bbox has 2 boxes for 1 queries"):
        inferencer(scenes[4], prompt, **options)


def test_a_label_of_other_proportions_is_refused(inferencer, scenes):
    with pytest.raises(ValueError, match=r"is 48x40, its label .* 48x20"):
        inferencer(scenes[4], [(scenes[0], scenes[1][:20])])


def test_frames_of_different_sizes_are_refused(inferencer, scenes):
    with pytest.raises(ValueError, match="frame 2 is 48x20, frame 1 48x40"):
        inferencer.continue_frames([scenes[0], scenes[1][:20]])


def test_a_hugging_face_export_is_prompted_with_its_tokenizer(tiny_model, scenes, prompt, tmp_path):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=32, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=512, tie_word_embeddings=False,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="give its tokenizer's folder"):
        DeLVMInferencer(weights=tmp_path)
    published = DeLVMInferencer(weights=tmp_path, tokenizer=tiny_model.tokenizer, device="cpu")
    assert published.size == 32 and published.generator.max_pairs == 3
    assert published.codec("pose").radius == 1.0  # radius 8 at 256 px
    (prediction,) = published(scenes[4], prompt, task="seg")["predictions"]
    sentence = tokens_of(published, scenes[:5]).view(1, -1)
    np.testing.assert_array_equal(prediction["tokens"], published.model.generate(sentence, 64)[0].numpy())
    built = DeLVMInferencer(delvm_from_huggingface(tmp_path, dict(pretrained=tiny_model.tokenizer)), device="cpu")
    np.testing.assert_array_equal(built(scenes[4], prompt)["predictions"][0]["tokens"], prediction["tokens"])


def test_the_model_is_found_where_the_quick_start_put_it(tiny_model, scenes, prompt, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("delvm_mm.apis.model_loading.PACKAGE", tmp_path / "delvm_mm")
    monkeypatch.setattr("delvm_mm.engine.configs.files.PACKAGE", tmp_path / "delvm_mm")
    (tmp_path / "configs" / "quickstart").mkdir(parents=True)
    config = Config.fromfile(tiny_model.config)
    config.model.tokenizer.pretrained = "work_dirs/quickstart/tokenizer/pretrained"
    config.dump(str(tmp_path / "configs" / "quickstart" / "student_kd.py"))
    with pytest.raises(FileNotFoundError, match=r"'quickstart' is not trained yet.*make quickstart"):
        DeLVMInferencer("quickstart")
    work = tmp_path / "work_dirs" / "quickstart"
    (work / "tokenizer").mkdir(parents=True)
    (work / "student_kd").mkdir()
    (work / "tokenizer" / "pretrained").symlink_to(tiny_model.tokenizer)
    (work / "student_kd" / "iter_500.pth").symlink_to(tiny_model.weights)
    (work / "student_kd" / "last_checkpoint").write_text("/elsewhere/student_kd/iter_500.pth")
    monkeypatch.chdir("/")
    assert len(DeLVMInferencer("quickstart", device="cpu")(scenes[4], prompt)["predictions"]) == 1


def test_the_quick_start_needs_no_tokenizer_of_its_own_where_the_config_names_the_one_that_is_carried(
    tiny_model, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("delvm_mm.apis.model_loading.PACKAGE", tmp_path / "delvm_mm")
    monkeypatch.setattr("delvm_mm.engine.configs.files.PACKAGE", tmp_path / "delvm_mm")
    (tmp_path / "configs" / "quickstart").mkdir(parents=True)
    config = Config.fromfile(tiny_model.config)
    config.model.tokenizer.pretrained = "delvm_mm://mini_tokenizer"
    config.dump(str(tmp_path / "configs" / "quickstart" / "student_kd.py"))
    weights = tmp_path / "work_dirs" / "quickstart" / "student_kd" / "iter_7.pth"
    weights.parent.mkdir(parents=True)
    weights.touch()
    found, checkpoint = find_config("quickstart")
    assert (found.model.tokenizer.pretrained, checkpoint) == ("delvm_mm://mini_tokenizer", str(weights))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (dict(), ValueError, "neither model nor weights"),
        (dict(model="maxi"), FileNotFoundError, "no model 'maxi': expected 'mini', one of"),
        (dict(model=3), TypeError, "model is a int"),
        (dict(weights="weights.pth"), FileNotFoundError, "No weight file at weights.pth"),
    ],
)
def test_a_model_that_is_none_is_named(arguments, error, message):
    with pytest.raises(error, match=message):
        DeLVMInferencer(**arguments)


def test_a_checkpoint_that_does_not_fit_is_refused(tiny_model, tmp_path):
    torch.save(dict(state_dict={"a": torch.zeros(1)}), tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other\.pth do not fit DeLVM"):
        DeLVMInferencer(tiny_model.config, tmp_path / "other.pth")
    with pytest.raises(FileNotFoundError, match=r"gone\.pth"):
        DeLVMInferencer(tiny_model.config, tmp_path / "gone.pth")
    with pytest.raises(ValueError, match="multiples of 4"):
        DeLVMInferencer(tiny_model.config, tiny_model.weights, size=30)


def test_published_prompts_are_taken_as_they_are(inferencer, shared):
    samples = shared / "samples"
    for task in ("seg", "pose", "derain"):
        query = samples / "queries" / f"{task}_1.png"
        (prediction,) = inferencer(query, samples / f"{task}_prompt", task=task)["predictions"]
        assert prediction["crop"]["original_size"] == list(Image.open(query).size)


def test_a_checkpoint_that_holds_its_config_needs_no_model(tiny_model, tmp_path, inferencer, scenes, prompt):
    weights = torch.load(tiny_model.weights)
    text = Config.fromfile(tiny_model.config).pretty_text  # as MMEngine saves it
    torch.save(dict(weights, meta=dict(cfg=text)), tmp_path / "iter_2.pth")
    alone = DeLVMInferencer(weights=tmp_path / "iter_2.pth", device="cpu", show_progress=False)
    assert alone.tasks == inferencer.tasks
    answers = [each(scenes[4], prompt)["predictions"][0]["tokens"] for each in (alone, inferencer)]
    np.testing.assert_array_equal(*answers)


@pytest.mark.parametrize("meta", [dict(), dict(meta=dict(cfg="")), dict(meta=dict(cfg="work_dir = 'here'"))])
def test_weights_without_a_config_need_a_model(tiny_model, tmp_path, meta):
    torch.save(torch.load(tiny_model.weights) | meta, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match="hold no config and were given without a model"):
        find_config(None, tmp_path / "weights.pth")
