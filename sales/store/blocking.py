"""Redis for code that may block: through django-redis, wherever Redis is. Commands raise RedisError."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import redis
from django.conf import settings
from django_redis import get_redis_connection
from redis.exceptions import MovedError, NoScriptError

from sales.store.cluster_client import ClusterClient
from sales.store.keys import DIRECTORY, key, slot
from sales.store.runs import name_run
from sales.store.scripts import script


def client() -> Any:
    """Return django-redis's client, for one command at a time; of a cluster it asks the server that holds the key.

    Untyped, because redis-py types each reply as the union of what all its configurations return.
    """
    return get_redis_connection("default")


def pipeline(key: str, *, transaction: bool = True) -> Any:
    """Return a pipeline to the server that holds a key, for keys of the same hash tag and for commands without any."""
    found = client()
    return (
        found.pipeline_to(slot(key), transaction=transaction)
        if isinstance(found, ClusterClient)
        else found.pipeline(transaction=transaction)
    )


def servers() -> dict[str, Any]:
    """Return a client of each server that takes purchases, by its name: there is one, but in a cluster."""
    found = client()
    return found.masters() if isinstance(found, ClusterClient) else {"Redis": found}


def server_of(key: str) -> Any:
    """Return a client of the server that holds a key."""
    found = client()
    return found.master_of(slot(key)) if isinstance(found, ClusterClient) else found


def for_each_server(sale_ids: Iterable[int], work: Callable[[Sequence[int]], int]) -> int:
    """Call `work` with the sales of each server, and return the sum of what it returns.

    A server of a cluster that fails does not keep it from the others; the first RedisError is raised in the end.
    """
    found = client()
    groups: dict[str, list[int]] = {}
    for sale_id in sale_ids:
        server = found.name_of(slot(key(sale_id, "config"))) if isinstance(found, ClusterClient) else ""
        groups.setdefault(server, []).append(sale_id)
    done = 0
    failures: list[redis.RedisError] = []
    for group in groups.values():
        try:
            done += work(group)
        except redis.RedisError as failure:
            failures.append(failure)
    if failures:
        raise failures[0]
    return done


def is_cluster() -> bool:
    """Return whether keys of different hash tags may be on different servers, so that no command takes both."""
    return settings.REDIS_ADDRESS.kind == "cluster"


def run_id_blocking(key: str = DIRECTORY) -> str:
    """Return the run of the server that holds a key."""
    return ask_with_run(key, ("EXISTS", key))[0]  # a server that does not hold it (any more) says so


def ask_with_run(key: str, *commands: Sequence[Any], transaction: bool = True) -> tuple[str, list[Any]]:
    """Return the run of the server that holds a key, and its replies to commands, as of one moment.

    Without a transaction the run is that from before the commands, whose keys may then be of several slots.
    """
    asked = pipeline(key, transaction=transaction)
    asked.info("server")
    asked.info("replication")
    for command in commands:
        asked.execute_command(*command)
    server, replication, *replies = asked.execute()
    # redis-py takes 40 zeros for a number.
    return name_run(server["run_id"], str(replication.get("master_replid2", ""))), replies


def look_again() -> None:
    """Forget which server is the master, or holds what: the next commands go to whoever does."""
    found = client()
    if isinstance(found, ClusterClient):
        found.learn()
    else:
        found.connection_pool.disconnect(inuse_connections=False)


def run_scripts_blocking(name: str, calls: Sequence[tuple[Sequence[str], Sequence[Any]]]) -> list[Any]:
    """Run a script through django-redis once for each of `calls`, which are its keys and arguments, in one write to the
    server that holds the first one's; return the replies. Raises the first RedisError that one of them met."""
    source = script(name)
    replies = _run(source.sha, "EVALSHA", calls)
    if missed := [place for place, reply in enumerate(replies) if isinstance(reply, NoScriptError)]:
        again = _run(source.text, "EVAL", [calls[place] for place in missed])
        for place, reply in zip(missed, again, strict=True):
            replies[place] = reply
    for reply in replies:
        if isinstance(reply, redis.RedisError):
            if isinstance(reply, MovedError):
                look_again()
            raise reply
    return replies


def _run(source: str, command: str, calls: Sequence[tuple[Sequence[str], Sequence[Any]]]) -> list[Any]:
    if not calls:
        return []
    asked = pipeline(calls[0][0][0], transaction=False)
    for keys, args in calls:
        asked.execute_command(command, source, len(keys), *keys, *args)
    replies: list[Any] = asked.execute(raise_on_error=False)
    return replies


def run_script_blocking(name: str, keys: Iterable[str], args: Iterable[Any]) -> Any:
    """Run a script through django-redis and return its reply."""
    source, words = script(name), list(keys)
    words = [len(words), *words, *args]  # type: ignore[list-item]
    try:
        return client().evalsha(source.sha, *words)
    except NoScriptError:
        return client().eval(source.text, *words)
