"""Published results on the data sets of `recommendation` and `completion`, each with its source and protocol.

All were looked up where the source says; none may be compared with ours directly, and the protocol says why.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["COMPLETION", "RECOMMENDATION", "Published", "lines"]


@dataclass(frozen=True)
class Published:
    """Results of one source on one data set.

    Args:
        metric: what was published.
        ours: the nearest that we have.
        values: by the names of our models.
        source: where the figures stand.
        protocol: how they were made, and what differs from ours.
    """

    metric: str
    ours: str
    values: dict[str, str]
    source: str
    protocol: str


_ADAKG = "AdaKG, CIKM 2026, README.md of its repository (RecBole 1.1.1, means of five seeds)"

RECOMMENDATION = {
    "kgcn-music": [
        Published(
            "AUC",
            "auc",
            {"KGCN": "0.794 (sum), 0.796 (concat), 0.781 (neighbor)"},
            "KGCN, WWW 2019, as quoted in openhgnn/output/KGCN/README.md of OpenHGNN, whose own runs gave "
            "0.796, 0.789, 0.786",
            "The same pairs and triples, but each pair has one drawn negative, in training and test alike, and "
            "models are fitted to these labels by cross-entropy. Ours fits rankings, against negatives that are drawn "
            "again at each step, and draws those of the test by itself.",
        ),
        Published(
            "Recall@10",
            "recall@20",
            {
                "LightGCN": "0.2695", "CFKG": "0.2444", "CKE": "0.2453", "RippleNet": "0.1633", "KGCN": "0.2149",
                "KGAT": "0.2583",
            },
            _ADAKG,
            "The same 21,173 pairs of 1,872 users and 15,518 triples, but recall of ten items instead of twenty; the "
            "page says neither how pairs were divided nor how the baselines were tuned.",
        ),
    ],
    "kgrec-book": [
        Published(
            "Recall@10",
            "recall@20",
            {
                "LightGCN": "0.0468", "CFKG": "0.0802", "CKE": "0.0313", "RippleNet": "0.0445", "KGCN": "0.0867",
                "KGAT": "0.0499",
            },
            _ADAKG,
            "The same 151,500 triples, but 24,644 pairs of 11,018 users where we have 69,873 of 17,860, and ten items "
            "instead of twenty.",
        ),
    ],
}  # fmt: skip

_LIBKGE = "LibKGE, README.md of uma-pi1/kge (Ruffinelli et al., ICLR 2020)"
_SEARCHED = (
    "Filtered as ours, and over the whole test part, entities that training never met included, as ours. But settings "
    "were found by an automatic search for each model; ours are one setting for all, by no search, in a few "
    "epochs, with a softmax over some drawn entities, and ties count in the middle."
)
COMPLETION = {
    "wn18rr": [
        Published("MRR", "mrr", {"TransE": "0.228", "DistMult": "0.452", "ComplEx": "0.475"}, _LIBKGE, _SEARCHED),
    ],
    "fb15k-237": [
        Published("MRR", "mrr", {"TransE": "0.313", "DistMult": "0.343", "ComplEx": "0.348"}, _LIBKGE, _SEARCHED),
    ],
}


def lines(found: list[Published], own: dict[str, dict[str, str]]) -> list[str]:
    """One Markdown table per source, with our results of the closest metric; ``own`` by metric and model."""
    out = []
    for one in found:
        out += [f"| model | {one.metric}, published | {one.ours}, ours |", "|---|---:|---:|"]
        out += [f"| {model} | {value} | {own[one.ours].get(model, 'not run')} |" for model, value in one.values.items()]
        out += ["", f"Source: {one.source}. {one.protocol}", ""]
    return out
