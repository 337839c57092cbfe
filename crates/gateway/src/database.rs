//! The embedded DynamoDB, served over HTTP so that functions use the real SDK.

use dynoxide::Database;
use dynoxide::actions::create_table::CreateTableRequest;
use dynoxide::actions::update_time_to_live::{TimeToLiveSpecification, UpdateTimeToLiveRequest};
use tokio::net::TcpListener;

use crate::template::TableSpec;

/// A table that the embedded DynamoDB will not make.
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

/// Serves the database. It ends only by failing, and then says why.
pub(crate) async fn serve(listener: TcpListener, database: Database) -> String {
    let served = dynoxide::server::serve_with_shutdown(listener, database, std::future::pending());
    served.await.err().unwrap_or_default()
}
