"""What a run of a server is: the time in which it cannot have lost anything unnoticed."""


def name_run(run_id: str, replaced_id: str) -> str:
    """Return the name of a run, of INFO's `run_id` and `master_replid2`.

    A server that starts again has another run id. One that was a replica in between, and so has what its master had in
    place of its own, has it still; but when it is made a master again, the history that it copied becomes its second
    replication ID (Valkey: "Replication ID explained"). One that was always a master has none, which is all zeros.
    """
    return f"{run_id}-{replaced_id}" if replaced_id.strip("0") else run_id
