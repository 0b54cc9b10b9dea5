"""Signatures, as https://www.standardwebhooks.com has them."""

from __future__ import annotations

from consumer.config.rules import signing_key
from consumer.notify.sending import signed


def test_the_signature_is_the_one_of_the_standard() -> None:
    """Its published example, so that any of its libraries verifies ours."""
    key = signing_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    assert signed(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}') == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_id_time_and_body_are_all_signed() -> None:
    """Change one, and it is another signature; without a secret there is none."""
    key = signing_key("0123456789abcdef")
    asked = [("a", 1, b"x"), ("b", 1, b"x"), ("a", 2, b"x"), ("a", 1, b"y")]
    assert len({signed(key, *one)["webhook-signature"] for one in asked}) == 4
    assert "webhook-signature" not in signed(None, "a", 1, b"x")
