"""Archives that stand in for those of a package index."""

import gzip
import io
import tarfile

RATED = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
STEMS = {"tweet": "tweets", "product": "amazonReviewSnippets", "movie": "movieReviewSnippets",
         "editorial": "nytEditorialSnippets"}  # fmt: skip


def tar_of(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return gzip.compress(packed.getvalue(), mtime=0)


def rated_files(rows: int = 60) -> dict[str, bytes]:
    """Files of rated texts as the package has them, in the words of the tiny encoders.

    Twelve sentences make a product review or an editorial. The ids of all ratings of products
    begin, as there, with a byte-order mark in the first row.
    """
    files = {}
    for place, (domain, stem) in enumerate(STEMS.items()):
        truths, raters = [], []
        for row in range(rows):
            whole = domain in ("product", "editorial")
            key = f"{row // 12 + 1}_{row % 12 + 1}" if whole else f"{row + 1}"
            word, sign = (("rose", 1), ("fell", -1))[(row + place) % 2]
            ratings = [sign * (1 + (row + rater) % 3) for rater in range(4 + row % 2)]
            mean = sum(ratings) / len(ratings)
            spread = (sum((one - mean) ** 2 for one in ratings) / len(ratings)) ** 0.5
            truths.append(f"{key}\t{mean}\t {domain} said caf\u00e9 sales {word} \u2019 {row}")
            mark = "\ufeff" if domain == "product" and not row else ""
            raters.append(f"{mark}{key}\t{mean}\t{spread}\t{ratings}")
        for kind, lines in (("GroundTruth", truths), ("anonDataRatings", raters)):
            files[f"hutto_ICWSM_2014/{stem}_{kind}.txt"] = "\r\n".join(lines).encode()
    return files


def rated_package(files: dict[str, bytes] | None = None) -> bytes:
    """A source distribution with these rated texts, whose setup.py must not run."""
    return tar_of(
        {
            "vaderSentiment-3.3.2/PKG-INFO": b"Metadata-Version: 2.1\nName: vaderSentiment\n"
            b"Version: 3.3.2\n",
            "vaderSentiment-3.3.2/setup.py": b"raise SystemExit('executed')\n",
            RATED: tar_of(rated_files() if files is None else files),
        }
    )
