"""What a new recommender refuses before it is made."""

from __future__ import annotations

import pytest
from tiny_recommenders import tiny_recommender

from llmrec.text.template import TEMPLATE_NAME, PromptTemplate


def template(folder, **patterns) -> str:
    PromptTemplate(item="{title}", **patterns).save(folder)
    return str(folder / TEMPLATE_NAME)


def test_word_limits_that_nothing_would_be_cut_by_are_refused(checkpoints, tmp_path):
    silent = template(tmp_path, event="", max_words={"title": 1})
    with pytest.raises(ValueError, match=r"max_words \{'title': 1\} cuts nothing.*\nTake it out of the template"):
        tiny_recommender(checkpoints["bert"], template=silent)
    reader = tiny_recommender(checkpoints["bert"], template=silent, head="cross").processor
    assert reader.candidate_block({"title": "heat alien"}) == reader.candidate_block({"title": "heat"})
    assert reader.candidate_block({"title": "alien heat"}) != reader.candidate_block({"title": "heat"})
    tiny_recommender(checkpoints["bert"], template=template(tmp_path, event="{title}", max_words={"title": 1}))
    tiny_recommender(checkpoints["bert"], template=template(tmp_path, event=""))
