"""A vote as the queue has it: a message of four words, or five."""

import pytest

from harness.vote import Vote, VoteId


@pytest.mark.parametrize(
    "vote_id", ["-00000000000000f", "0_00000000000000", "00000000000000A1", "1"]
)
def test_a_message_with_an_id_that_no_client_mints_is_no_vote(vote_id: str) -> None:
    with pytest.raises(ValueError, match="no vote"):
        Vote.from_message(f"{vote_id} 1 town-hall v1".encode())


def test_a_message_of_four_words_is_as_ever_and_a_fifth_says_that_it_is_the_only_one() -> None:
    vote = Vote(VoteId(161), "town-hall", 1, "once")
    assert vote.to_message() == b"00000000000000a1 1 town-hall once"
    assert Vote.from_message(vote.to_message()) == vote
    only = vote._replace(once=True)
    assert only.to_message() == b"00000000000000a1 1 town-hall once once"
    assert Vote.from_message(only.to_message()) == only


@pytest.mark.parametrize("more", [b" twice", b" once once", b" ", b" Once", b" once ", b"  once"])
def test_a_message_with_another_fifth_word_is_no_vote(more: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # no vote, or not four words
        Vote.from_message(b"00000000000000a1 1 town-hall v1" + more)
