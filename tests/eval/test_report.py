"""What the report shows of single queries, and how it says what a test found."""

import re
from datetime import date

import pytest

from trlm_retrieval import __version__
from trlm_retrieval.eval.best_of_n.report import write_best_of_n_report
from trlm_retrieval.eval.citation.report import write_citation_report
from trlm_retrieval.eval.dataset import load_dataset
from trlm_retrieval.eval.report import _said
from trlm_retrieval.eval.result import Test as PairedTest
from trlm_retrieval.eval.result import summarise
from trlm_retrieval.eval.retrieval.evaluation import evaluate_retrieval
from trlm_retrieval.eval.retrieval.report import write_retrieval_report


@pytest.fixture
def evaluation(beir, tiny_lm, tmp_path):
    """A run that puts the right passage second for q1, first for q2 and q3."""
    given = {
        "q1": {"d4": 3.0, "d1": 2.0, "d2": 1.0},
        "q2": {"d2": 3.0, "d1": 2.0, "d3": 1.0},
        "q3": {"d3": 3.0, "d1": 2.0, "d2": 1.0},
    }
    evaluation = evaluate_retrieval(
        load_dataset(str(beir)), tiny_lm, "tiny", cache_folder=tmp_path, first_stage_run=given
    )
    evaluation.result.per_query["default"]["nDCG@10"] = {"q1": 1.0, "q2": 0.5, "q3": 0.25}
    evaluation.runs["default"]["q1"] = {"d1": 3.0, "d2": 2.0, "d4": 1.0}
    return evaluation


def page(evaluation, tmp_path):
    write_retrieval_report(tmp_path / "r.html", evaluation)
    return (tmp_path / "r.html").read_text()


def test_queries_are_shown_from_the_largest_gain_and_loss(evaluation, tmp_path):
    html = page(evaluation, tmp_path)
    before = evaluation.result.per_query["fusion"]["nDCG@10"]["q1"]
    summaries = re.findall(r"<summary>.*?([+-][.0-9]+)</span> (.*?) <small>(.*?)</small>", html)
    texts = evaluation.dataset.queries
    assert summaries == [
        (f"+{1 - before:.2f}", texts["q1"], f"{before:.2f} → 1.00"),
        ("-0.75", texts["q3"], "1.00 → 0.25"),
        ("-0.50", texts["q2"], "1.00 → 0.50"),
    ]
    differences = [float(d) for d in re.findall(r"<title>([+-][.0-9]+) ", html)]
    assert differences == sorted(differences, reverse=True) and len(differences) == 3
    assert "of 3 queries, 1 gain, 2 lose, 0 stay" in html


def test_it_names_its_command_its_date_and_its_version(evaluation, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["/bin/trlm", "eval", "retrieval", "--data", "my <set>"])
    result = evaluation.result
    made = summarise("d", "m", result.per_query, "nDCG@10", [], {}, {}, []).made
    assert made["command"] == "trlm eval retrieval --data 'my <set>'"
    html = page(evaluation, tmp_path)
    today, version = evaluation.result.made["date"], evaluation.result.made["version"]
    assert f"Made on {today} by trlm-retrieval {version} with <code>" in html
    assert version == __version__ and date.fromisoformat(today) <= date.today()


def test_it_warns_of_few_queries(evaluation, tmp_path):
    assert "Only 3 queries were measured" in page(evaluation, tmp_path)
    evaluation.result.queries = 50
    assert "were measured" not in page(evaluation, tmp_path)


@pytest.mark.parametrize(("width", "scheme"), [(320, "light"), (768, "dark"), (1280, "light")])
def test_everybody_can_read_it(evaluation, tmp_path, open_page, check_page, width, scheme):
    page(evaluation, tmp_path)
    shown = open_page(width, scheme)
    shown.goto((tmp_path / "r.html").as_uri())
    for details in shown.locator("summary").all():
        details.click()
    check_page(shown)


def test_each_passage_has_its_grade_and_its_rank_in_the_other_ranking(evaluation, tmp_path):
    html = page(evaluation, tmp_path)
    gained = html[html.index("Queries that gain most") : html.index("Queries that lose most")]
    rows = re.findall(r"<li><b>(\w+)</b> <small.*?>(.*?)</small> <small>(.*?)</small>", gained)
    assert rows == [
        ("d1", "grade 2", "fusion rank 2"),
        ("d2", "not judged", "fusion rank 3"),
        ("d4", "grade 0", "fusion rank 1"),
        ("d4", "grade 0", "default rank 3"),
        ("d1", "grade 2", "default rank 1"),
        ("d2", "not judged", "default rank 2"),
    ]


def small_result(unit, measure, systems):
    """Two units: every system has 0.25 and one half of its number."""
    per_query = {
        name: {measure: {"a": 0.25, "b": number / 2}} for number, name in enumerate(systems)
    }
    compared = [(name, systems[0]) for name in systems[1:]]
    seconds = dict.fromkeys(systems, 1.5)
    settings = {"answers": 1}
    return summarise("few", "tiny", per_query, measure, compared, seconds, settings, [], unit)


def test_citations_and_best_of_n_have_reports_of_their_own_units(tmp_path):
    path = tmp_path / "r.html"
    write_citation_report(path, small_result("claims", "top1", ["overlap", "default"]))
    page = path.read_text()
    assert "2 claims of 1 answers, scored with tiny." in page and "Means over claims" in page
    assert "default against overlap" in page and "of 2 claims, 1 gain, 0 lose, 1 stay" in page
    assert "share of words" in page and "passages scored now" not in page
    write_citation_report(path, small_result("answers", "F1", ["forward_linear", "reverse_linear"]))
    page = path.read_text()
    assert "within a source" in page and "reverse_linear against forward_linear" in page
    assert "reverse gain; each sentence scored" in page
    write_best_of_n_report(path, small_result("prompts", "preference@16", ["length", "reverse"]))
    page = path.read_text()
    assert "Highest preference@16: reverse, 0.375" in page and "reverse against length" in page


@pytest.mark.parametrize(
    ("difference", "p", "sentence"),
    [
        (0.1, 0.001, "a is 0.100 above b, more than chance explains (p = 0.0010)."),
        (-0.1, 0.04, "a is 0.100 below b, more than chance explains (p = 0.0400)."),
        (0.1, 0.05, "a is 0.100 above b, which may be chance (p = 0.05)."),
    ],
)
def test_what_a_test_found_is_said(difference, p, sentence):
    assert _said(PairedTest("nDCG@10", "a", "b", difference, p)) == sentence
