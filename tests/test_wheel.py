"""What is built holds all that the package needs, and works without the repository."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
NOT_SOURCE = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__", "tests")


def run(*command, cwd):
    done = subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel made from the source distribution, as pip makes one."""
    folder = tmp_path_factory.mktemp("built")
    source = shutil.copytree(ROOT, folder / "source", ignore=NOT_SOURCE)
    build = "from setuptools import build_meta; print(build_meta.build_sdist(r'{}'))"
    run(sys.executable, "-c", build.format(folder), cwd=source)
    [archive] = folder.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(folder / "unpacked", filter="data")
    [unpacked] = (folder / "unpacked").iterdir()
    build = "from setuptools import build_meta; print(build_meta.build_wheel(r'{}'))"
    run(sys.executable, "-c", build.format(folder), cwd=unpacked)
    [made] = folder.glob("*.whl")
    return made


def test_it_holds_every_file_of_the_package(wheel):
    places = {"eval": "trlm_retrieval/eval", "index_data": "trlm_retrieval/index_data"}
    places |= {"pipelines": "trlm_retrieval/pipelines", "trlm_retrieval": "trlm_retrieval"}
    wanted = {
        f"{place}/{file.relative_to(ROOT / folder).as_posix()}"
        for folder, place in places.items()
        for file in (ROOT / folder).rglob("*")
        if file.is_file()
        and "__pycache__" not in file.parts
        # the pages that explain a folder to a reader of the repository
        and not (file.suffix == ".md" and folder != "trlm_retrieval")
    }
    with ZipFile(wheel) as packed:
        names = set(packed.namelist())
        [entry_points] = [name for name in names if name.endswith("entry_points.txt")]
        assert b"trlm = trlm_retrieval.cli:main" in packed.read(entry_points)
    assert wanted - names == set()
    assert not [name for name in names if name.startswith(("tests/", "eval/"))]


def test_it_searches_in_a_clean_environment(wheel, tmp_path):
    """Its dependencies are those of this environment; the repository is not on the path."""
    home = tmp_path / "clean"
    venv.create(home, with_pip=False, symlinks=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site = home / "lib" / version / "site-packages"
    packages = {path for path in sys.path if path.endswith("-packages")}
    packages.add(sysconfig.get_path("purelib"))
    (site / "dependencies.pth").write_text("\n".join(sorted(packages)))
    python = home / "bin" / "python"
    install = ["-m", "pip", "install", "--no-deps", "--ignore-installed", "--no-index"]
    run(python, *install, wheel, cwd=tmp_path)
    where = run(python, "-c", "import trlm_retrieval.eval as e; print(e.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(home)
    (tmp_path / "notes.txt").write_text("The with statement calls enter and exit.")
    trlm = home / "bin" / "trlm"
    run(trlm, "index", "notes.txt", "--index", "index", cwd=tmp_path)
    options = ["--index", "index", "--model", "trlm-small"]
    found = run(trlm, "search", "what calls enter", *options, cwd=tmp_path)
    assert "with statement" in found
    run(trlm, "explain", "what calls enter", *options, "-o", "why.html", cwd=tmp_path)
    assert os.path.getsize(tmp_path / "why.html") > 1000
