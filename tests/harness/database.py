"""Behind a cloud's back: what only an operator with the database in hand can set or see."""

import sqlite3
from contextlib import closing

from . import cluster
from .cloud import Account, Cloud


def sql(cloud: Cloud, text: str) -> str:
    """Runs a statement on the cloud's database, whichever it is, while the cloud works on; one line for each row."""
    if cloud.cluster:
        server = cluster.database(cloud.cluster)
        return server.sql(text, cloud.variables["CUMULET_DATABASE"].rsplit("/", 1)[1]).stdout.strip()
    with closing(sqlite3.connect(cloud.state / "cumulet.db", timeout=30)) as connection:
        rows = connection.execute(text).fetchall()
        connection.commit()
    return "\n".join("|".join(map(str, row)) for row in rows)


def set_quota(account: Account, instances: int, vcpus: int = 100_000) -> None:
    """How many instances, and vCPUs of them, an account may have."""
    limits = f"instances_max = {instances}, vcpus_max = {vcpus}"
    sql(account.cloud, f"update accounts set {limits} where id = {int(account.id)}")


def used(account: Account) -> int:
    """How many instances are counted against the quota."""
    return int(sql(account.cloud, f"select instances_used from accounts where id = {int(account.id)}"))


def shrink(account: Account, block: str) -> None:
    """Gives the account's one subnet a smaller block."""
    sql(account.cloud, f"update subnets set cidr = '{block}' where account = {int(account.id)}")


# What is written down each time that a host would have given out more than it has, in the very transaction.
_SEES = """new.vcpus_used > new.vcpus_max or new.memory_mib_used > new.memory_mib_max
    or new.disk_gib_used > new.disk_gib_max"""


def watch_hosts(cloud: Cloud) -> None:
    """From now on `oversold` knows of every change of a host, however short it was."""
    sql(cloud, "create table oversold (host varchar(255))")
    sql(cloud, "create table watched (host varchar(255))")
    if cloud.cluster == "postgresql":
        sql(
            cloud,
            f"""create function watch() returns trigger language plpgsql as $$ begin
            insert into watched values (new.id);
            if {_SEES} then insert into oversold values (new.id); end if;
            return new; end $$""",
        )
        sql(cloud, "create trigger watch after update of vcpus_used on hosts for each row execute function watch()")
    elif cloud.cluster == "mariadb":
        after = "after update on hosts for each row insert into"
        sql(cloud, f"create trigger watch {after} watched select new.id where new.vcpus_used <> old.vcpus_used")
        sql(cloud, f"create trigger watch_room {after} oversold select new.id where {_SEES}")
    else:
        sql(
            cloud,
            f"""create trigger watch after update of vcpus_used on hosts begin
            insert into watched values (new.id);
            insert into oversold select new.id where {_SEES}; end""",
        )


def oversold(cloud: Cloud) -> tuple[int, int]:
    """How many changes of hosts were seen, and how many of them gave out more than there is."""
    return int(sql(cloud, "select count(*) from watched")), int(sql(cloud, "select count(*) from oversold"))
