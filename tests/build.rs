//! Sets `cfg(deployed)` if the conformance suite is to run against a deployed
//! API. Rows that can only be checked locally are then ignored tests: the run
//! prints each one with its reason and counts them.

fn main() {
    const URL: &str = "CONFORMANCE_URL";
    println!("cargo::rustc-check-cfg=cfg(deployed)");
    println!("cargo::rerun-if-env-changed={URL}");
    if std::env::var(URL).is_ok_and(|url| !url.is_empty()) {
        println!("cargo::rustc-cfg=deployed");
    }
}
