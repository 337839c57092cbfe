//! The embedded DynamoDB, served over HTTP so that functions use the real SDK.

mod contention;
mod keyed;
mod proxy;
mod request_tokens;

use std::io;
use std::net::Ipv4Addr;

use dynoxide::Database;
use dynoxide::actions::create_table::CreateTableRequest;
use dynoxide::actions::update_time_to_live::{TimeToLiveSpecification, UpdateTimeToLiveRequest};
use tokio::net::TcpListener;

use crate::fault::Faults;
use crate::guard::Guard;
use crate::ids;
use crate::listen::Listeners;
use crate::server;
use crate::template::TableSpec;
pub(crate) use keyed::{ConnectionItems, KeyedTables};

/// The embedded DynamoDB refused to create a table.
#[derive(Debug, thiserror::Error)]
#[error("table {table}: {problem}")]
pub(crate) struct TableError {
    table: String,
    problem: String,
}

/// An empty database with these tables.
pub(crate) fn with_tables(tables: &[TableSpec]) -> Result<Database, TableError> {
    let error = |table: &str, problem: String| TableError {
        table: table.to_owned(),
        problem,
    };
    let database = Database::memory().map_err(|e| error("(none)", e.to_string()))?;
    for table in tables {
        let create: CreateTableRequest = serde_json::from_value(table.create.clone())
            .map_err(|e| error(&table.name, e.to_string()))?;
        database
            .create_table(create)
            .map_err(|e| error(&table.name, e.to_string()))?;
        if let Some(attribute) = &table.ttl_attribute {
            let specification = TimeToLiveSpecification {
                attribute_name: attribute.clone(),
                enabled: true,
            };
            let request = UpdateTimeToLiveRequest {
                table_name: table.name.clone(),
                time_to_live_specification: specification,
            };
            database
                .update_time_to_live(request)
                .map_err(|e| error(&table.name, e.to_string()))?;
        }
    }
    Ok(database)
}

/// Serves a proxy on `listeners`, and the database behind it on a private port.
/// Returns only after a failure, with its message.
pub(crate) async fn serve(
    listeners: Listeners,
    database: Database,
    tables: Vec<TableSpec>,
    faults: Faults,
    guard: Guard,
) -> io::Result<String> {
    let private = private_listener().await?;
    let proxy = proxy::router(private.local_addr()?, &tables, faults);
    let served = dynoxide::server::serve_with_shutdown(private, database, std::future::pending());
    tokio::select! {
        ended = served => Ok(ended.err().unwrap_or_default()),
        () = server::serve(listeners, proxy, guard) => Ok(String::new()),
    }
}

/// The database's own server has no guard and lets every web page read its
/// responses, so it listens where no page finds it: at a random one of the 16
/// million loopback addresses. Only Linux has more than one.
async fn private_listener() -> io::Result<TcpListener> {
    let hidden = TcpListener::bind((ids::loopback(), 0)).await;
    match hidden {
        Ok(listener) => Ok(listener),
        Err(_) => TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await,
    }
}
