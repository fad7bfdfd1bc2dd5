"""How far two readers of the demo's passages agree.

python -m trlm_retrieval.index_data.agreement
"""

from sklearn.metrics import cohen_kappa_score

from . import QRELS, demo_qrels


def main() -> None:
    """Print the share of equal grades and Cohen's kappa over what both readers judged."""
    first, second = demo_qrels(), demo_qrels(QRELS.with_name("second_reader.tsv"))
    pairs = [
        (first[query][passage], grade)
        for query, grades in second.items()
        for passage, grade in grades.items()
    ]
    ours, theirs = zip(*pairs, strict=True)
    equal = sum(one == other for one, other in pairs) / len(pairs)
    print(f"{len(pairs)} pairs of {len(second)} questions: {equal:.1%} the same grade")
    print(f"linear weighted kappa: {cohen_kappa_score(ours, theirs, weights='linear'):.2f}")
    relevant = [[grade >= 2 for grade in grades] for grades in (ours, theirs)]
    print(f"kappa of grades 2 and 3 against the rest: {cohen_kappa_score(*relevant):.2f}")


if __name__ == "__main__":
    main()
