"""All faults by name."""

from tests.faults import cancel_faults, redis_faults, sql_faults, web_faults, writer_faults
from tests.faults.rounds import Fault
from tests.faults.stage import Plan

PROXIED = Plan(proxied=True)
POSTGRESQL = Plan(database="postgresql")
UNAVAILABLE = frozenset({"unavailable"})
UNKNOWN = frozenset({"unknown"})

FAULTS: dict[str, Fault] = {
    "redis_killed": Fault(redis_faults.killed, shows=UNAVAILABLE | UNKNOWN),
    "redis_stopped_half_a_second": Fault(redis_faults.stopped_for(0.5)),
    "redis_stopped_2_s": Fault(redis_faults.stopped_for(2), shows=UNAVAILABLE | UNKNOWN),
    "redis_stopped_10_s": Fault(redis_faults.stopped_for(10), shows=UNAVAILABLE | UNKNOWN),
    "redis_answers_lost": Fault(redis_faults.answers_lost, PROXIED, shows=UNKNOWN),
    "redis_refuses_connections": Fault(redis_faults.connection_refused, PROXIED, shows=UNAVAILABLE),
    "redis_disk_full": Fault(redis_faults.disk_full, Plan(small_disk=True), shows=UNAVAILABLE | UNKNOWN),
    "redis_file_cut": Fault(redis_faults.file_cut, shows=UNAVAILABLE, loses_data=True),
    "redis_memory_full": Fault(redis_faults.memory_full, shows=UNAVAILABLE),
    "redis_scripts_flushed": Fault(redis_faults.scripts_flushed),
    "redis_wiped": Fault(redis_faults.wiped, shows=UNAVAILABLE, loses_data=True),
    "redis_replaced_by_older_copy": Fault(redis_faults.replaced_by_older_copy, shows=UNAVAILABLE, loses_data=True),
    "redis_clock_back_10_s": Fault(redis_faults.clock_back, Plan(shifts_redis_clock=True)),
    "writer_killed_before_insert": Fault(writer_faults.killed_before("insert"), needs_purchases=True),
    "writer_killed_before_commit": Fault(writer_faults.killed_before("commit"), needs_purchases=True),
    "writer_killed_before_acknowledge": Fault(writer_faults.killed_before("acknowledge"), needs_purchases=True),
    "writer_stopped_past_its_claim": Fault(writer_faults.stopped_past_its_claim, Plan(writers=2)),
    "malformed_entries": Fault(writer_faults.malformed_entries),
    "sqlite_locked_3_s": Fault(sql_faults.sqlite_locked_for(3)),
    "sqlite_locked_30_s": Fault(sql_faults.sqlite_locked_for(30), is_short=False),
    "postgresql_stopped": Fault(sql_faults.postgresql_stopped, POSTGRESQL),
    "postgresql_backends_terminated": Fault(sql_faults.postgresql_backends_terminated, POSTGRESQL),
    "postgresql_away_while_redis_restarts": Fault(
        sql_faults.redis_killed_while_sql_is_away, POSTGRESQL, shows=UNAVAILABLE
    ),
    "web_worker_killed": Fault(web_faults.worker_killed, drops_connections=True),
    "web_reloaded": Fault(web_faults.reloaded, drops_connections=True),
    "web_stopped_and_started": Fault(web_faults.stopped_and_started, shows=UNKNOWN, drops_connections=True),
    "app_clock_ahead_1_h": Fault(web_faults.clock_wrong, Plan(app_clock_seconds=3600)),
    "app_clock_behind_1_h": Fault(web_faults.clock_wrong, Plan(app_clock_seconds=-3600)),
    "writer_killed_before_insert_on_postgresql": Fault(
        writer_faults.killed_before("insert"), POSTGRESQL, needs_purchases=True, is_short=False
    ),
    "writer_killed_before_commit_on_postgresql": Fault(
        writer_faults.killed_before("commit"), POSTGRESQL, needs_purchases=True, is_short=False
    ),
    "writer_killed_before_acknowledge_on_postgresql": Fault(
        writer_faults.killed_before("acknowledge"), POSTGRESQL, needs_purchases=True, is_short=False
    ),
    "writer_stopped_past_its_claim_on_postgresql": Fault(
        writer_faults.stopped_past_its_claim, Plan(database="postgresql", writers=2), is_short=False
    ),
    "cancelling": Fault(cancel_faults.nothing, cancels=True),
    "cancelling_on_postgresql": Fault(cancel_faults.nothing, POSTGRESQL, cancels=True, is_short=False),
    "canceller_killed_before_redis_knows": Fault(cancel_faults.canceller_killed_before("redis"), cancels=True),
    "canceller_killed_before_sql_knows": Fault(cancel_faults.canceller_killed_before("settled"), cancels=True),
    "cancelling_while_redis_is_killed": Fault(redis_faults.killed, shows=UNAVAILABLE | UNKNOWN, cancels=True),
    "cancelling_while_redis_is_stopped_2_s": Fault(
        redis_faults.stopped_for(2), shows=UNAVAILABLE | UNKNOWN, cancels=True, is_short=False
    ),
    "cancelling_while_redis_answers_are_lost": Fault(
        redis_faults.answers_lost, PROXIED, shows=UNKNOWN, cancels=True, is_short=False
    ),
    "cancelling_while_redis_is_wiped": Fault(
        redis_faults.wiped, shows=UNAVAILABLE, loses_data=True, cancels=True, is_short=False
    ),
    "cancelling_while_redis_file_is_cut": Fault(
        redis_faults.file_cut, shows=UNAVAILABLE, loses_data=True, cancels=True, is_short=False
    ),
    "cancelling_while_redis_is_replaced_by_older_copy": Fault(
        redis_faults.replaced_by_older_copy, shows=UNAVAILABLE, loses_data=True, cancels=True
    ),
    "cancelling_while_writer_is_killed": Fault(
        writer_faults.killed_before("commit"), needs_purchases=True, cancels=True, is_short=False
    ),
    "cancelling_while_sqlite_is_locked_3_s": Fault(sql_faults.sqlite_locked_for(3), cancels=True),
    "cancelling_while_postgresql_is_stopped": Fault(sql_faults.postgresql_stopped, POSTGRESQL, cancels=True),
    "cancelling_while_backends_are_terminated": Fault(
        sql_faults.postgresql_backends_terminated, POSTGRESQL, cancels=True, is_short=False
    ),
}
