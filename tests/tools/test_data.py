"""Calibration and labelled data: what is read, in which order, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fxc.compiler.errors import CalibrationError, FxcError, UsageError
from fxc.compiler.program import InputSpec
from fxc.tools.data.calibration import load_calibration
from fxc.tools.data.labelled import class_indices, load_labelled
from fxc.tools.data.spec import parse_spec

IMAGE = (InputSpec("x", ("batch", 3, 32, 32), "float32"),)
VECTOR = (InputSpec("x", ("batch", 4), "float32"),)
PAIR = (InputSpec("a", ("batch", 4), "float32"), InputSpec("b", ("batch", 2), "int64"))


def picture(path: Path, seed: int, size: tuple[int, int] = (40, 36)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def folder(root: Path, count: int) -> Path:
    for i in range(count):
        picture(root / f"class{i % 3}" / f"{i:03}.png", i)
    return root


def joined(data: object) -> list[torch.Tensor]:
    return [torch.cat(parts) for parts in zip(*data)]  # type: ignore[call-overload]


def test_a_folder_is_read_in_path_order_whatever_the_disk_says(tmp_path: Path) -> None:
    data = load_calibration(str(folder(tmp_path, 10)), inputs=IMAGE)
    (images,) = joined(data)
    assert images.shape == (10, 3, 32, 32)
    assert data.count == 10
    assert torch.equal(images, joined(data)[0]), "a second iteration gives the same batches"
    red_first = Image.open(sorted(tmp_path.rglob("*.png"))[0])
    expected = data.preprocessing(red_first)  # type: ignore[misc]
    assert torch.equal(images[0], expected)


def test_a_limit_samples_every_class(tmp_path: Path) -> None:
    data = load_calibration(str(folder(tmp_path, 12)), inputs=IMAGE, limit=3)
    everything = joined(load_calibration(str(tmp_path), inputs=IMAGE))[0]
    assert torch.equal(joined(data)[0], everything[[0, 4, 8]])


def test_a_fixed_batch_leaves_the_incomplete_one_out_and_says_so(tmp_path: Path) -> None:
    fixed = (InputSpec("x", (4, 3, 32, 32), "float32"),)
    data = load_calibration(str(folder(tmp_path, 10)), inputs=fixed)
    assert [b[0].shape[0] for b in data] == [4, 4]
    assert "last 2 sample(s)" in data.warnings[0]
    with pytest.raises(CalibrationError, match="fixed to batches of 16"):
        load_calibration(str(tmp_path), inputs=(InputSpec("x", (16, 3, 32, 32), "float32"),))


def test_one_unreadable_image_in_ten_is_skipped_by_name(tmp_path: Path) -> None:
    broken = folder(tmp_path, 10) / "class0" / "009.png"
    broken.write_bytes(broken.read_bytes()[:200])
    data = load_calibration(str(tmp_path), inputs=IMAGE)
    assert data.count == 9
    assert len(data.warnings) == 1
    assert str(broken) in data.warnings[0]


def test_a_truncated_jpeg_is_unreadable_too(tmp_path: Path) -> None:
    for i in range(10):
        picture(tmp_path / f"{i}.jpg", i, (200, 200))
    broken = tmp_path / "4.jpg"
    broken.write_bytes(broken.read_bytes()[:-400])
    with pytest.raises(OSError):  # Pillow agrees that it is broken
        Image.open(broken).load()
    assert str(broken) in load_calibration(str(tmp_path), inputs=IMAGE).warnings[0]


def test_more_than_a_tenth_unreadable_is_refused(tmp_path: Path) -> None:
    folder(tmp_path, 10)
    (tmp_path / "class0" / "000.png").write_bytes(b"not an image")
    (tmp_path / "class1" / "001.png").write_bytes(b"")
    with pytest.raises(CalibrationError, match="2 of 10 images") as caught:
        load_calibration(str(tmp_path), inputs=IMAGE)
    assert "000.png" in str(caught.value)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(CalibrationError, match="no images"):
        load_calibration(str(tmp_path), inputs=IMAGE)


def test_images_need_an_image_input(tmp_path: Path) -> None:
    folder(tmp_path, 2)
    with pytest.raises(UsageError, match="images do not fit"):
        load_calibration(str(tmp_path), inputs=VECTOR)
    with pytest.raises(CalibrationError, match="feeds one input"):
        load_calibration(str(tmp_path), inputs=PAIR)


def test_npy_npz_and_pt_give_the_same_samples(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    np.save(tmp_path / "d.npy", values)
    np.savez(tmp_path / "d.npz", x=values, y=np.arange(20))
    torch.save(torch.from_numpy(values), tmp_path / "d.pt")
    for name in ("d.npy", "d.npz", "d.pt"):
        data = load_calibration(str(tmp_path / name), inputs=VECTOR)
        assert np.array_equal(joined(data)[0].numpy(), values), name
    assert np.array_equal(
        joined(load_calibration(str(tmp_path / "d.npy"), inputs=VECTOR, limit=5))[0], values[::4]
    )


def test_several_inputs_come_by_name_in_the_models_order(tmp_path: Path) -> None:
    a, b = np.ones((6, 4), np.float32), np.arange(12).reshape(6, 2)
    np.savez(tmp_path / "d.npz", b=b, a=a)
    got = joined(load_calibration(str(tmp_path / "d.npz"), inputs=PAIR))
    assert np.array_equal(got[0], a)
    assert np.array_equal(got[1], b)
    np.savez(tmp_path / "e.npz", a=a)
    with pytest.raises(CalibrationError, match="lacks an array"):
        load_calibration(str(tmp_path / "e.npz"), inputs=PAIR)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((0, 4), np.float32), "empty"),
        (np.full((3, 4), np.nan, np.float32), "NaN or infinity"),
        (np.array([[0, 1, np.inf, 2]], np.float32), "NaN or infinity"),
        (np.zeros((3, 5), np.float32), r"shape \[3, 5\], expected \[batch, 4\]"),
        (np.zeros((4,), np.float32), "expected"),
        (np.zeros((3, 4), np.uint8), "dtype uint8, expected float32"),
        (np.array(["a", "b"]), "dtype"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path: Path, values: np.ndarray, message: str) -> None:
    np.save(tmp_path / "d.npy", values)
    with pytest.raises(CalibrationError, match=message) as caught:
        load_calibration(str(tmp_path / "d.npy"), inputs=VECTOR)
    assert "d.npy" in str(caught.value)


def test_a_nan_in_the_last_batch_is_found_before_the_data_is_used(tmp_path: Path) -> None:
    values = np.zeros((20, 4), np.float32)
    values[19, 3] = np.nan
    np.save(tmp_path / "d.npy", values)
    with pytest.raises(CalibrationError, match=r"samples 16 to 19, at \[3, 3\]"):
        load_calibration(str(tmp_path / "d.npy"), inputs=VECTOR)


def test_wider_floats_are_narrowed_but_integers_are_not_scaled(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(3, 4))
    np.save(tmp_path / "d.npy", values)
    got = joined(load_calibration(str(tmp_path / "d.npy"), inputs=VECTOR))[0]
    assert got.dtype == torch.float32
    assert np.array_equal(got, values.astype(np.float32))


def test_pickles_in_numpy_files_are_refused_and_do_not_run(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "ran",))

    np.save(tmp_path / "d.npy", np.array([Hostile()], dtype=object), allow_pickle=True)
    with pytest.raises(CalibrationError, match="cannot be read"):
        load_calibration(str(tmp_path / "d.npy"), inputs=VECTOR)
    assert not (tmp_path / "ran").exists()


def test_a_truncated_archive_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.zeros((9, 4), np.float32))
    (tmp_path / "d.npz").write_bytes((tmp_path / "d.npz").read_bytes()[:100])
    with pytest.raises(CalibrationError, match="cannot be read"):
        load_calibration(str(tmp_path / "d.npz"), inputs=VECTOR)


SOURCE = """
import torch
from beside import N
as_list = [torch.ones(2, 4)] * N
def as_function():
    for i in range(N):
        yield torch.full((2, 4), float(i))
as_generator = as_function()
as_dicts = [{"b": torch.ones(1, 2, dtype=torch.int64), "a": torch.zeros(1, 4)}]
as_tensor = torch.arange(40.0).reshape(10, 4)
with_labels = [(torch.ones(2, 4), torch.tensor([0, 1]))]
with_nan = [torch.ones(2, 4), torch.full((2, 4), float("nan"))]
nothing = []
number = 3
def fails():
    yield torch.ones(2, 4)
    raise RuntimeError("disk on fire")
"""


@pytest.fixture
def user_file(tmp_path: Path) -> Path:
    (tmp_path / "beside.py").write_text("N = 3")
    (tmp_path / "data.py").write_text(SOURCE)
    return tmp_path / "data.py"


@pytest.mark.parametrize("name", ["as_list", "as_function", "as_generator"])
def test_an_iterable_of_the_users_can_be_read_twice(user_file: Path, name: str) -> None:
    data = load_calibration(f"{user_file}:{name}", inputs=VECTOR)
    assert [b[0].shape for b in data] == [(2, 4)] * 3
    assert torch.equal(joined(data)[0], joined(data)[0])


def test_other_shapes_of_user_data(user_file: Path) -> None:
    assert joined(load_calibration(f"{user_file}:as_tensor", inputs=VECTOR))[0].shape == (10, 4)
    assert joined(load_calibration(f"{user_file}:as_dicts", inputs=PAIR))[1].shape == (1, 2)
    assert len(list(load_calibration(f"{user_file}:as_list", inputs=VECTOR, limit=3))) == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("with_labels", "without labels"),
        ("with_nan", "NaN"),
        ("nothing", "yields nothing"),
        ("number", "is a int"),
        ("absent", "has no 'absent'"),
        ("fails", "disk on fire"),
    ],
)
def test_user_data_that_does_not_fit_is_refused(user_file: Path, name: str, message: str) -> None:
    with pytest.raises(FxcError) as caught:
        list(load_calibration(f"{user_file}:{name}", inputs=VECTOR))
    assert message in str(caught.value)


def test_a_failing_user_file_is_told_with_its_own_line(tmp_path: Path) -> None:
    (tmp_path / "data.py").write_text("import torch\nbatches = [1 / 0]\n")
    with pytest.raises(UsageError) as caught:
        load_calibration(f"{tmp_path / 'data.py'}:batches", inputs=VECTOR)
    assert "line 2: batches = [1 / 0]" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nowhere", "there is no nowhere"),
        ("nowhere.py:x", "there is no nowhere.py"),
        (__file__, "which name in the file"),
        (f"{__file__}:a-b", "names no attribute"),
    ],
)
def test_a_wrong_data_argument_is_refused_by_its_text(text: str, message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        parse_spec(text)


def test_class_folders_are_numbered_as_imagefolder_does(tmp_path: Path) -> None:
    from torchvision.datasets import ImageFolder

    folder(tmp_path, 9)
    data = load_labelled(str(tmp_path), inputs=IMAGE)
    theirs = ImageFolder(str(tmp_path))
    assert data.labels.tolist() == theirs.targets
    (images,) = joined(data)
    assert images.shape[0] == 9
    assert class_indices(["10", "9", "2"]) == {"10": 10, "9": 9, "2": 2}


def test_labels_in_an_archive(tmp_path: Path) -> None:
    x, y = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32), np.arange(20) % 3
    np.savez(tmp_path / "d.npz", x=x, y=y)
    data = load_labelled(str(tmp_path / "d.npz"), inputs=VECTOR, limit=10)
    assert data.labels.tolist() == y[::2].tolist()
    assert np.array_equal(joined(data)[0], x[::2])
    np.savez(tmp_path / "e.npz", x=x, y=y[:4])
    with pytest.raises(CalibrationError, match="class index is expected"):
        load_labelled(str(tmp_path / "e.npz"), inputs=VECTOR)
    np.savez(tmp_path / "f.npz", x=x)
    with pytest.raises(CalibrationError, match="no labels"):
        load_labelled(str(tmp_path / "f.npz"), inputs=VECTOR)
