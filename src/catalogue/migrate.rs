//! The schema: embedded migrations, applied by one process at a time; an index of a newer version is refused.

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{Executor as _, SqlSafeStr as _};

use super::Catalogue;
use super::database::{Database, Pools};
use super::failure::convert;
use super::sql::Statement;
use crate::error::{Error, Result};

/// What [`Catalogue::migrate`] did. Versions count from 1; 0 is an empty database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// The version found.
    pub from: i64,
    /// The version now.
    pub to: i64,
}

/// Name, SQLite, PostgreSQL; numbered from 1.
const MIGRATIONS: &[(&str, &str, &str)] = &[
    (
        "index",
        include_str!("../../migrations/sqlite/0001_index.sql"),
        include_str!("../../migrations/postgres/0001_index.sql"),
    ),
    (
        "leases",
        include_str!("../../migrations/sqlite/0002_leases.sql"),
        include_str!("../../migrations/postgres/0002_leases.sql"),
    ),
    (
        "lapsed_leases",
        include_str!("../../migrations/sqlite/0003_lapsed_leases.sql"),
        include_str!("../../migrations/postgres/0003_lapsed_leases.sql"),
    ),
    (
        "deletions",
        include_str!("../../migrations/sqlite/0004_deletions.sql"),
        include_str!("../../migrations/postgres/0004_deletions.sql"),
    ),
    (
        "left_objects",
        include_str!("../../migrations/sqlite/0005_left_objects.sql"),
        include_str!("../../migrations/postgres/0005_left_objects.sql"),
    ),
    (
        "restores",
        include_str!("../../migrations/sqlite/0006_restores.sql"),
        include_str!("../../migrations/postgres/0006_restores.sql"),
    ),
];

/// The newest version that this build knows.
fn newest() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

fn migrator(pick: impl Fn(&(&'static str, &'static str, &'static str)) -> &'static str) -> Migrator {
    let migrations = (1..).zip(MIGRATIONS).map(|(version, migration)| {
        Migration::new(version, migration.0.into(), MigrationType::Simple, pick(migration).into_sql_str(), false)
    });
    Migrator::with_migrations(migrations.collect())
}

impl Catalogue {
    /// Applies the migrations that are missing. One process at a time does: the others wait and find nothing to do.
    ///
    /// # Errors
    /// `Configuration` when the index is of a newer version.
    pub async fn migrate(&self) -> Result<Migrated> {
        let from = check_version(&self.0.database).await?;
        if from < newest() {
            match &self.0.database.pools {
                Pools::Sqlite { writer, .. } => {
                    // sqlx takes no lock on SQLite; within this transaction each migration becomes a savepoint
                    let mut transaction = writer.begin_with("begin immediate").await.map_err(convert)?;
                    let migrator = migrator(|migration| migration.1);
                    migrator.run_direct(None, &mut *transaction, false).await.map_err(failed)?;
                    transaction.commit().await.map_err(convert)?;
                }
                Pools::Postgres(pool) => {
                    let pool = pool.clone();
                    self.0.database.spawn(async move { migrate_postgres(&pool).await }).await?;
                }
            }
        }
        Ok(Migrated { from, to: check_version(&self.0.database).await? })
    }

    /// Whether there is an index, of whatever version.
    ///
    /// # Errors
    /// `Configuration` when it is of a newer version.
    pub async fn is_made(&self) -> Result<bool> {
        Ok(check_version(&self.0.database).await? > 0)
    }

    /// Refuses an index that is empty or of an older version: for commands that look after an archive and must neither
    /// begin one in the wrong place nor bring one up to date on which another version is still serving.
    ///
    /// # Errors
    /// `Configuration` that says what to do.
    pub async fn expect_current(&self) -> Result<()> {
        let place = &self.0.database.place;
        match check_version(&self.0.database).await? {
            0 => Err(Error::configuration(format!(
                "there is no archive in `{place}`; name its index with `--data-dir` or `--database-url`"
            ))),
            version if version < newest() => Err(Error::configuration(format!(
                "the index at {place} has version {version}, this isocenter needs {}; run `isocenter migrate`",
                newest()
            ))),
            _ => Ok(()),
        }
    }
}

async fn migrate_postgres(pool: &sqlx::PgPool) -> Result<()> {
    // a connection of its own, closed afterwards: it waits for the lock and alters tables without a time limit
    let mut connection = pool.acquire().await.map_err(convert)?.detach();
    connection.execute("set statement_timeout = 0").await.map_err(convert)?;
    migrator(|migration| migration.2).run_direct(None, &mut connection, false).await.map_err(failed)?;
    sqlx::Connection::close(connection).await.map_err(convert)
}

fn failed(error: sqlx::migrate::MigrateError) -> Error {
    let message = match &error {
        sqlx::migrate::MigrateError::VersionMismatch(version) => format!(
            "the index was made by another build of migration {version}; run the isocenter that made it, or `isocenter reindex` into an empty database"
        ),
        _ => format!("migrating the index failed: {error}"),
    };
    Error::configuration(message).caused_by(error)
}

/// The version of the index, 0 when it is empty. Refuses one that is newer than this build.
pub(super) async fn check_version(database: &Database) -> Result<i64> {
    refuse_foreign(database).await?;
    let exists = match database.pools {
        Pools::Sqlite { .. } => "select count(*) from sqlite_schema where type = 'table' and name = '_sqlx_migrations'",
        Pools::Postgres(_) => "select count(*) from pg_catalog.pg_class where oid = to_regclass('_sqlx_migrations')",
    };
    let exists = database.read_optional(Statement::new(exists)).await?;
    if exists.map_or(Ok(0), |row| row.integer(0))? == 0 {
        return Ok(0);
    }
    let version =
        database.read_optional(Statement::new("select coalesce(max(version), 0) from _sqlx_migrations")).await?;
    let version = version.map_or(Ok(0), |row| row.integer(0))?;
    if version > newest() {
        return Err(Error::configuration(format!(
            "the index at {} has version {version}, this isocenter knows up to {}; run a newer isocenter",
            database.place,
            newest()
        )));
    }
    Ok(version)
}

/// Refuses a file of SQLite that another program made. In a database of PostgreSQL others may have tables too.
async fn refuse_foreign(database: &Database) -> Result<()> {
    // one statement, as another process may migrate at this moment; it makes all tables at once
    const FOREIGN: &str = "select count(*) from sqlite_schema where type = 'table' and name not like 'sqlite~_%' escape '~' \
                           and (select count(*) from sqlite_schema where type = 'table' \
                                and name in ('_sqlx_migrations', 'studies', 'instances')) < 3";
    if !matches!(database.pools, Pools::Sqlite { .. }) {
        return Ok(());
    }
    let foreign = database.read_optional(Statement::new(FOREIGN)).await?;
    if foreign.map_or(Ok(0), |row| row.integer(0))? == 0 {
        return Ok(());
    }
    Err(Error::configuration(format!(
        "the file at {} is not an index of isocenter, it has tables of another program; choose another with \
         `--database-url` or `--data-dir`",
        database.place
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_migrations_folders_is_embedded() {
        for folder in ["migrations/sqlite", "migrations/postgres"] {
            let mut names: Vec<String> = std::fs::read_dir(folder)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            let expected: Vec<String> =
                (1..).zip(MIGRATIONS).map(|(number, (name, ..))| format!("{number:04}_{name}.sql")).collect();
            assert_eq!(names, expected, "{folder}");
        }
    }
}
