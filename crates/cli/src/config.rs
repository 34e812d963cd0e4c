//! `fairway config`: validates a configuration, and shows what is made of it.

use std::path::Path;

use fairway_config::{Authority, Fault, Severity};
use serde_json::{Value, json};

use crate::args::{ConfigCommand, ConfigShow};
use crate::failure::{self, Failure, Outcome};
use crate::{output, table, units};

/// Runs one of the commands.
pub fn run(command: ConfigCommand) -> Outcome {
    match command {
        ConfigCommand::Validate { file, json } => validate(&file, json),
        ConfigCommand::Show(args) => show(&args),
    }
}

/// Reads a configuration that has to be valid.
///
/// # Errors
/// When the file cannot be read, or with all its errors.
pub fn load(file: &Path) -> Result<Authority, Failure> {
    Authority::parse(&read(file)?).map_err(|faults| {
        let errors = faults.iter().filter(|fault| fault.severity == Severity::Error);
        let list: String = errors.map(|fault| format!("\n{}", described(fault).trim_end())).collect();
        Failure::refused(format!("{} is not a valid configuration{list}", file.display()))
    })
}

fn read(file: &Path) -> Result<String, Failure> {
    let unreadable = |why: String| {
        Failure::refused(format!("cannot read the configuration {}: {why}", file.display()))
            .fix("name an existing JSON document of the whole authority; docs/configuration.md describes it")
    };
    let size = std::fs::metadata(file).map_err(|error| unreadable(error.to_string()))?.len();
    if size > fairway_config::MAX_DOCUMENT as u64 {
        return Err(unreadable(format!(
            "it has {}, but at most {} are read",
            units::bytes(size),
            units::bytes(fairway_config::MAX_DOCUMENT as u64)
        )));
    }
    std::fs::read_to_string(file).map_err(|error| unreadable(error.to_string()))
}

fn validate(file: &Path, json: bool) -> Outcome {
    let text = read(file)?;
    let parsed = Authority::parse(&text);
    let faults: &[Fault] = match &parsed {
        Ok(authority) => authority.warnings(),
        Err(faults) => faults,
    };
    if json {
        output::json(&faults_json(file, faults))?;
    } else {
        output::text(&faults_text(file, parsed.as_ref().ok(), faults))?;
    }
    Ok(if parsed.is_ok() { failure::OK } else { failure::REFUSED })
}

fn faults_json(file: &Path, faults: &[Fault]) -> Value {
    let list: Vec<Value> = faults
        .iter()
        .map(|fault| {
            json!({
                "severity": fault.severity.name(),
                "path": fault.path,
                "value": fault.value,
                "problem": fault.problem,
                "fix": fault.fix,
            })
        })
        .collect();
    let errors = faults.iter().filter(|fault| fault.severity == Severity::Error).count();
    json!({
        "file": file.display().to_string(),
        "valid": errors == 0,
        "errors": errors,
        "warnings": faults.len() - errors,
        "faults": list,
    })
}

fn faults_text(file: &Path, authority: Option<&Authority>, faults: &[Fault]) -> String {
    let errors = faults.iter().filter(|fault| fault.severity == Severity::Error).count();
    let warnings = faults.len() - errors;
    let mut text: String = faults.iter().map(|fault| described(fault) + "\n").collect();
    let mut verdict = format!("{}: ", file.display());
    match authority {
        Some(authority) => verdict.push_str(&format!("valid, {}", summary(authority))),
        None => verdict.push_str(&format!("refused, {}", units::counted(errors, "error", "errors"))),
    }
    if warnings > 0 {
        verdict.push_str(&format!(", {}", units::counted(warnings, "warning", "warnings")));
    }
    text.push_str(&verdict);
    text.push('\n');
    text
}

fn summary(authority: &Authority) -> String {
    format!(
        "authority {}: {}, {}, {}",
        authority.name,
        units::counted(authority.routers.len(), "router", "routers"),
        units::counted(authority.tenants.len(), "tenant", "tenants"),
        units::counted(authority.services.len(), "service", "services"),
    )
}

/// A fault on a few lines: where, what is there, what is wrong, what to do.
fn described(fault: &Fault) -> String {
    let mut text = table::paragraph(0, fault.severity.name(), 7, &fault.path);
    if let Some(value) = &fault.value {
        text.push_str(&table::paragraph(2, "value", 5, &units::printable(value)));
    }
    text.push_str(&table::paragraph(2, "why", 5, &units::printable(&fault.problem)));
    text.push_str(&table::paragraph(2, "fix", 5, &units::printable(&fault.fix)));
    text
}

fn show(args: &ConfigShow) -> Outcome {
    let authority = load(&args.file)?;
    let document = authority.to_json(args.generated);
    let Some(name) = &args.router else {
        output::text(&document)?;
        return Ok(failure::OK);
    };
    if authority.router(name).is_none() {
        let known: Vec<&str> = authority.routers.iter().map(|router| router.name.as_str()).collect();
        let file = args.file.display();
        let why = format!("{file} has no router named {name}; its routers are {}", known.join(", "));
        return Err(Failure::refused(why));
    }
    let mut document: Value = serde_json::from_str(&document)
        .map_err(|error| Failure::refused(format!("the configuration could not be written: {error}")))?;
    keep_router(&mut document, name);
    output::json(&document)?;
    Ok(failure::OK)
}

/// Leaves only one router in the document; what routers share stays.
fn keep_router(document: &mut Value, name: &str) {
    let routers = document.get_mut("fairway:authority").and_then(|authority| authority.get_mut("router"));
    if let Some(routers) = routers.and_then(Value::as_array_mut) {
        routers.retain(|router| router.get("name").and_then(Value::as_str) == Some(name));
    }
}
