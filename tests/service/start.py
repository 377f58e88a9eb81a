"""`python -m service` with the hashing kind known, also to the workers that it spawns."""

from models.registry import KINDS
from service.__main__ import main

KINDS["hashing"] = "tests.service.hashing_member:HashingMember"

if __name__ == "__main__":
    main()
