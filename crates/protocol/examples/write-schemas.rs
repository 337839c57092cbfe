//! Writes the JSON Schemas to the folder given as the argument: `make schemas`.

use std::path::PathBuf;

use belfry_protocol::schemas;

fn main() -> std::io::Result<()> {
    let folder = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| "schemas".into()));
    for (name, schema) in schemas::all() {
        std::fs::write(folder.join(name), schemas::to_file(&schema))?;
        println!("wrote {}", folder.join(name).display());
    }
    Ok(())
}
