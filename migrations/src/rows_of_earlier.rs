//! Rows that programs of before the migrations m0019 and m0020 don't write: volumes, attachments and addresses of
//! what such a program has launched, and the end of them; and the root devices that programs of before m0022 name
//! after the guest's bus. The migrations see to them; a program that runs beside an earlier one does it again and
//! again. Each statement does nothing where it has been done.

use sea_orm_migration::{
    prelude::*,
    sea_orm::{ConnectionTrait, DbBackend, Statement},
};

/// The volumes and attachments of every instance: the root volume of one that has ended has ended with it.
pub(crate) async fn every_volume(conn: &impl ConnectionTrait) -> Result<(), DbErr> {
    run(conn, &volumes("")).await?;
    run(conn, ATTACHMENTS).await
}

/// The addresses of every interface.
pub(crate) async fn addresses(conn: &impl ConnectionTrait) -> Result<(), DbErr> {
    run(conn, &address_rows(conn.get_database_backend())).await
}

/// Root devices by EC2's name, of images and of attachments; what reads it as metadata is told.
pub(crate) async fn rename_roots(conn: &impl ConnectionTrait) -> Result<(), DbErr> {
    for sql in [TOLD_OF_ROOTS, NEWER_METADATA, ATTACHED_ROOTS, ROOTS_OF_IMAGES] {
        run(conn, sql).await?;
    }
    Ok(())
}

/// Whether an earlier program has made or ended something since.
///
/// # Errors
/// Those of the database.
pub async fn are_missing(conn: &impl ConnectionTrait) -> Result<bool, DbErr> {
    let sql = format!(
        "SELECT CASE WHEN EXISTS (SELECT 1 FROM instances i WHERE {NO_ATTACHMENT}) \
         OR EXISTS (SELECT 1 FROM interfaces n WHERE {NO_ADDRESS}) \
         OR EXISTS (SELECT 1 FROM interface_addresses WHERE {NO_INTERFACE}) \
         OR EXISTS (SELECT 1 FROM volume_attachments WHERE {ENDED}) \
         OR EXISTS (SELECT 1 FROM images WHERE root_device = '/dev/vda') \
         OR EXISTS (SELECT 1 FROM volume_attachments WHERE device = '/dev/vda') THEN 1 ELSE 0 END AS missing"
    );
    let ask = Statement::from_string(conn.get_database_backend(), sql);
    match conn.query_one_raw(ask).await? {
        Some(row) => Ok(row.try_get_by_index::<i64>(0)? != 0),
        None => Ok(false),
    }
}

/// Writes what an earlier program has not written. (In one transaction; whoever makes or ends an instance at the
/// same time is dealt with the next time.)
///
/// # Errors
/// Those of the database.
pub async fn write(conn: &impl ConnectionTrait) -> Result<(), DbErr> {
    run(conn, &volumes("i.terminated_at IS NULL AND")).await?;
    run(conn, ATTACHMENTS).await?;
    run(
        conn,
        &format!("DELETE FROM interface_addresses WHERE {NO_INTERFACE}"),
    )
    .await?;
    addresses(conn).await?;
    run(conn, ENDED_VOLUMES).await?;
    run(conn, FREED_VOLUMES).await?;
    run(conn, &format!("DELETE FROM volume_attachments WHERE {ENDED}")).await?;
    rename_roots(conn).await
}

/// A living instance without a disk.
const NO_ATTACHMENT: &str = "i.terminated_at IS NULL \
     AND NOT EXISTS (SELECT 1 FROM volume_attachments a WHERE a.instance = i.id)";

/// An interface without an address.
const NO_ADDRESS: &str = "NOT EXISTS (SELECT 1 FROM interface_addresses a WHERE a.interface = n.id)";

/// An address whose interface is gone.
const NO_INTERFACE: &str =
    "NOT EXISTS (SELECT 1 FROM interfaces n WHERE n.id = interface_addresses.interface)";

/// An attachment to what has ended, or is gone.
const ENDED: &str = "NOT EXISTS (SELECT 1 FROM instances i \
     WHERE i.id = volume_attachments.instance AND i.terminated_at IS NULL)";

/// The volumes that have ended with their instances; the time is that of the instance's end.
const ENDED_VOLUMES: &str = "UPDATE volumes SET state = 'deleted', deleted_at = COALESCE(\
     (SELECT i.terminated_at FROM instances i JOIN volume_attachments a ON a.instance = i.id \
     WHERE a.volume = volumes.id), created_at) \
     WHERE state = 'in-use' AND EXISTS (SELECT 1 FROM volume_attachments a WHERE a.volume = volumes.id \
     AND a.delete_on_termination = 1 AND NOT EXISTS (SELECT 1 FROM instances i WHERE i.id = a.instance \
     AND i.terminated_at IS NULL))";

/// The volumes that outlive what they were attached to.
const FREED_VOLUMES: &str = "UPDATE volumes SET state = 'available' \
     WHERE state = 'in-use' AND EXISTS (SELECT 1 FROM volume_attachments a WHERE a.volume = volumes.id \
     AND a.delete_on_termination = 0 AND NOT EXISTS (SELECT 1 FROM instances i WHERE i.id = a.instance \
     AND i.terminated_at IS NULL))";

/// A root volume has its instance's number. Living instances' images are there.
const ATTACHMENTS: &str = "INSERT INTO volume_attachments \
     (instance, device, volume, boot_index, state, delete_on_termination, attached_at) \
     SELECT i.id, COALESCE(m.root_device, '/dev/vda'), i.id, 0, 'attached', 1, i.created_at \
     FROM instances i LEFT JOIN images m ON m.id = i.image WHERE i.terminated_at IS NULL \
     AND NOT EXISTS (SELECT 1 FROM volume_attachments a WHERE a.instance = i.id)";

/// No attachment but a root's could be named so, and none `/dev/xvda`.
const ATTACHED_ROOTS: &str = "UPDATE volume_attachments SET device = '/dev/xvda' WHERE device = '/dev/vda'";

const ROOTS_OF_IMAGES: &str = "UPDATE images SET root_device = '/dev/xvda' WHERE root_device = '/dev/vda'";

/// The instances whose metadata has the old name are to be told the new one.
const TOLD_OF_ROOTS: &str = "INSERT INTO metadata_pushes (instance) \
     SELECT a.instance FROM volume_attachments a WHERE a.device = '/dev/vda' \
     AND NOT EXISTS (SELECT 1 FROM metadata_pushes p WHERE p.instance = a.instance)";

const NEWER_METADATA: &str = "UPDATE instances SET metadata_revision = metadata_revision + 1 \
     WHERE id IN (SELECT a.instance FROM volume_attachments a WHERE a.device = '/dev/vda')";

fn volumes(of: &str) -> String {
    format!(
        "INSERT INTO volumes (id, account, availability_zone, size_gib, volume_type, state, image, encrypted, \
         generation, created_at, deleted_at) \
         SELECT i.id, i.account, i.availability_zone, i.disk_gib, 'gp3', \
         CASE WHEN i.terminated_at IS NULL THEN 'in-use' ELSE 'deleted' END, i.image, 0, 1, i.created_at, \
         i.terminated_at FROM instances i WHERE {of} NOT EXISTS (SELECT 1 FROM volumes v WHERE v.id = i.id)"
    )
}

fn address_rows(backend: DbBackend) -> String {
    let digits = |column: &str| match backend {
        DbBackend::Postgres => {
            format!("'00000000000000000000ffff' || LPAD(TO_HEX({column}), 8, '0')")
        }
        DbBackend::MySql => format!("CONCAT('00000000000000000000ffff', LPAD(LOWER(HEX({column})), 8, '0'))"),
        _ => format!("'00000000000000000000ffff' || PRINTF('%08x', {column})"),
    };
    let (private, public) = (digits("n.private_ip"), digits("n.public_ip"));
    format!(
        "INSERT INTO interface_addresses (subnet, address, interface, address_index, account, vpc, public_address) \
         SELECT n.subnet, {private}, n.id, 0, n.account, n.vpc, \
         CASE WHEN n.public_ip IS NULL THEN NULL ELSE {public} END FROM interfaces n WHERE {NO_ADDRESS}"
    )
}

async fn run(conn: &impl ConnectionTrait, sql: &str) -> Result<(), DbErr> {
    conn.execute_unprepared(sql).await.map(drop)
}
