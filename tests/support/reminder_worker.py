"""Serves reminders until it is killed: `python -m tests.support.reminder_worker TARGETS NAME SEED`.

It prints a line of JSON for each claim before it works on it, and now and then it drops one.
"""

from __future__ import annotations

import json
import random
import sys
import time

import sessiond

TTL = 2.0
EVERYTHING = sessiond.session_filter(whole_tenant=True)


def main() -> None:
    target, name, seed = sys.argv[1:4]
    chance = random.Random(seed)
    with sessiond.Client(target, timeout=10) as client:
        while True:
            try:
                claims = client.claim_reminders(
                    name, EVERYTHING, max_count=3, wait=2, lease_ttl=TTL
                )
            except sessiond.SessiondError:
                time.sleep(0.1)
                continue
            for claim in claims:
                end = claim.expire_time.ToNanoseconds() / 1e9
                print(json.dumps([claim.reminder.id, claim.attempt, end - TTL, end]), flush=True)
            for claim in claims:
                time.sleep(chance.uniform(0, 0.05))
                if chance.random() < 0.1:
                    continue
                try:
                    client.complete_reminder(
                        claim.reminder.session_id,
                        claim.reminder.id,
                        claim.claim_token,
                        append_message=True,
                    )
                except sessiond.SessiondError:
                    continue


if __name__ == "__main__":
    main()
