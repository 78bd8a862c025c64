"""The protocol of an evaluation in words: what every number depends on besides the system."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmrec.data.findings import percent
from llmrec.evaluation.document import Note


def summary(protocol: Mapping[str, Any]) -> str:
    """Say in one sentence who was evaluated on what, for the place under a heading or a figure.

    >>> split = {"split": "test", "split_kind": "leave_one_out"}
    >>> summary({**split, "num_users": 943, "num_items": 1682, "mask_seen": True})
    '943 users, test split (leave-one-out), ranked among all 1,682 items, seen items masked'
    """
    return (
        f"{protocol['num_users']:,} users, {_split(protocol)}, ranked among all {protocol['num_items']:,} items, "
        f"{seen_items(protocol)}"
    )


def about(protocol: Mapping[str, Any]) -> str:
    """Say what stands under the heading of a report: the summary, and what contradicts it."""
    return " ".join(filter(None, [f"{summary(protocol)}.", other_mask(protocol)]))


def protocol_notes(results: Mapping[str, Any]) -> list[Note]:
    """Say everything that is known of the protocol; what an older report does not hold is left out."""
    protocol = results["protocol"]
    notes = [_data(protocol), _adapter("Subject", results.get("subject")), _other_data(results)]
    cascade = results.get("cascade") or {}
    notes += [_cascade(cascade), _adapter("Proposer", cascade.get("proposer"))]
    notes += [_targets(protocol), _seen(protocol), _other_mask(protocol), _cold(protocol)]
    notes += [
        Note("Rank", f"{protocol['tie_rule']}."),
        Note(
            "Time",
            f"{percent(protocol['tied_event_share'])} of the events share their time with a neighbour; "
            "their order is a convention.",
        ),
        _now(protocol),
        _against(results),
        _values(protocol),
    ]
    if len(results["systems"]) > 1:
        notes.append(Note("Bold", "the paired interval of the difference to every other system lies above zero."))
    return [note for note in notes if note is not None]


def trained_on_other_data(results: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the source and manifest of what the measured adapter was trained on, where those are not what it ranked.

    >>> subject = {"trained_on": {"source": "films", "manifest_sha256": "a"}}
    >>> trained_on_other_data({"subject": subject, "protocol": {"manifest_sha256": "b"}})["source"]
    'films'
    >>> trained_on_other_data({"subject": subject, "protocol": {"manifest_sha256": "a"}})
    """
    trained = (results.get("subject") or {}).get("trained_on") or {}
    ranked = results["protocol"].get("manifest_sha256")
    return trained if ranked and trained.get("manifest_sha256") not in (None, ranked) else None


def seen_items(protocol: Mapping[str, Any]) -> str:
    """Say whether items of the history were ranked, and which share of the targets that put out of reach.

    >>> seen_items({"mask_seen": True, "repeated_target_share": 0.25}), seen_items({"mask_seen": False})
    ('seen items masked: 25% of the targets, seen before, cannot be hit', 'seen items kept')
    """
    if not protocol["mask_seen"]:
        return "seen items kept"
    share = protocol.get("repeated_target_share", 0)
    return "seen items masked" + (f": {percent(share)} of the targets, seen before, cannot be hit" if share else "")


def other_mask(protocol: Mapping[str, Any]) -> str:
    """Name the systems that were trained or chosen for the other kind of ranking; empty where there are none.

    >>> other_mask({"mask_seen": True, "mask_seen_of": {"llmrec": False, "sasrec": True}})
    'Seen items are masked here, but llmrec was trained or chosen for rankings with seen items kept.'
    """
    masked = protocol.get("mask_seen")
    others = [name for name, mask in protocol.get("mask_seen_of", {}).items() if mask != masked]
    if not others:
        return ""
    here, there = ("masked", "kept") if masked else ("kept", "masked")
    were = f"{', '.join(others)} {'was' if len(others) == 1 else 'were'}"
    return f"Seen items are {here} here, but {were} trained or chosen for rankings with seen items {there}."


def _split(protocol: Mapping[str, Any]) -> str:
    return f"{protocol['split']} split ({protocol['split_kind'].replace('_', '-')})"


def _data(protocol: Mapping[str, Any]) -> Note | None:
    if "source" not in protocol:
        return None
    return Note("Data", f"{protocol['source']}, manifest {protocol['manifest_sha256'][:12]}.")


def _adapter(role: str, adapter: Mapping[str, Any] | None) -> Note | None:
    if not adapter:
        return None
    text = f"{adapter['name']}: adapter {adapter.get('model')}"
    if adapter.get("revision"):
        text += f" at {adapter['revision']}"
    if adapter.get("adapter_sha256"):
        text += f" (weights {adapter['adapter_sha256'][:12]})"
    if adapter.get("base_model"):
        text += f" on {adapter['base_model']}"
    if adapter.get("popularity_weight") is not None:
        text += f", popularity weight {adapter['popularity_weight']}"
        if adapter.get("saved_popularity_weight") not in (None, adapter["popularity_weight"]):
            text += f" (saved with {adapter['saved_popularity_weight']})"
    return Note(role, f"{text}.")


def _other_data(results: Mapping[str, Any]) -> Note | None:
    trained = trained_on_other_data(results)
    if trained is None:
        return None
    return Note(
        "Other data",
        f"the adapter was trained on {trained.get('source')}, manifest {trained['manifest_sha256'][:12]}. If these "
        "hold events of the data above, it may have learned the very targets that it was asked for.",
    )


def _cascade(cascade: Mapping[str, Any]) -> Note | None:
    """Say what is re-ranked, and the ceiling that sets.

    >>> _cascade({"num_candidates": 100, "recall_ceiling": 0.4}).text
    'the candidate head ranks the 100 items that the dual head puts first, which hold 40% of the targets.'
    """
    if not cascade:
        return None
    number, ceiling = cascade["num_candidates"], percent(cascade["recall_ceiling"])
    whose = "the proposer's dual head" if cascade.get("proposer") else "the dual head"
    some = f"the {number} items that {whose} puts first, which hold {ceiling} of the targets"
    return Note("Cascade", f"the candidate head ranks {some if number else 'the whole catalogue'}.")


def _targets(protocol: Mapping[str, Any]) -> Note:
    whole = protocol.get("num_users_drawn_from")
    drawn = f" (a sample of {whole:,})" if whole else ""
    first = " Items that the user had had before are no targets." if protocol.get("targets") == "first" else ""
    return Note(
        "Targets",
        f"{protocol['num_cases']:,} of {protocol['num_users']:,} users{drawn}, {_split(protocol)}, each ranked among "
        f"all {protocol['num_items']:,} items. Kept out for want of an earlier event: "
        f"{protocol['num_cases_without_history']:,}.{first}",
    )


def _seen(protocol: Mapping[str, Any]) -> Note:
    repeated = f"{percent(protocol['repeated_target_share'])} of the targets are among them"
    if protocol["mask_seen"]:
        return Note("Seen items", f"masked; {repeated} and count as misses.")
    return Note("Seen items", f"not masked; {repeated}.")


def _other_mask(protocol: Mapping[str, Any]) -> Note | None:
    return Note("Other mask", text) if (text := other_mask(protocol)) else None


def _cold(protocol: Mapping[str, Any]) -> Note | None:
    if "cold_target_share" not in protocol:
        return None
    return Note(
        "Cold items",
        f"{protocol['num_cold_items']:,} items have no training event; {percent(protocol['cold_target_share'])} of "
        "the targets are among them. Baselines that know ids alone rank them last.",
    )


def _against(results: Mapping[str, Any]) -> Note | None:
    if not results.get("against"):
        return None
    return Note("Against", f"llmrec_against: adapter {results['against']}, by the head and weight it was saved with.")


def _now(protocol: Mapping[str, Any]) -> Note | None:
    if not protocol.get("now"):
        return None
    return Note(
        "Now",
        "the system under test is told when it is asked: at the time of the target, of which it learns nothing else. "
        "llmrec_now_last is the same adapter asked at the time of the last event: what lies between them came from "
        "knowing the moment. Baselines are not told.",
    )


def _values(protocol: Mapping[str, Any]) -> Note:
    seed = protocol.get("seed", protocol.get("bootstrap_seed"))
    return Note(
        "Values",
        "mean over each user's targets, then over users, with the "
        f"{protocol['confidence']:.0%} bootstrap interval over users ({protocol['bootstrap_draws']:,} draws, "
        f"seed {seed}). Recall is also the hit rate: each case has one target.",
    )
