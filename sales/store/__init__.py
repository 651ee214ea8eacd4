"""Redis: its keys, its connections, its scripts, and the two ways in which it can fail us.

The only importer of redis. The lane calls `call`, `ask` and `run_scripts` (asyncio), everything else `client` and
`pipeline` (django-redis). Redis is one server, a master that sentinels watch, or a cluster: REDIS_URL says.
"""

from sales.store.blocking import (
    ask_with_run,
    client,
    for_each_server,
    is_cluster,
    look_again,
    pipeline,
    run_id_blocking,
    run_script_blocking,
    run_scripts_blocking,
    server_of,
    servers,
)
from sales.store.failures import Archived, Failure, RedisError, ResponseError, Unavailable, Unknown
from sales.store.keys import (
    AUDITS,
    CHECKED_RUN,
    CODE_MAILS,
    CODES,
    DIRECTORY,
    FORGETFUL,
    PRESSES,
    REHEARSALS,
    WORKERS,
    WRITERS,
    key,
)
from sales.store.lane import Answer, ask, ask_everywhere, ask_scripts, call, close, place, run_scripts
from sales.store.scripts import script
from sales.store.server import RUN_ID

__all__ = [
    "AUDITS",
    "CHECKED_RUN",
    "CODES",
    "CODE_MAILS",
    "DIRECTORY",
    "FORGETFUL",
    "PRESSES",
    "REHEARSALS",
    "RUN_ID",
    "WORKERS",
    "WRITERS",
    "Answer",
    "Archived",
    "Failure",
    "RedisError",
    "ResponseError",
    "Unavailable",
    "Unknown",
    "ask",
    "ask_everywhere",
    "ask_scripts",
    "ask_with_run",
    "call",
    "client",
    "close",
    "for_each_server",
    "is_cluster",
    "key",
    "look_again",
    "pipeline",
    "place",
    "run_id_blocking",
    "run_script_blocking",
    "run_scripts",
    "run_scripts_blocking",
    "script",
    "server_of",
    "servers",
]
