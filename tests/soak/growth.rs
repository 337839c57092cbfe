//! Memory and open files over the run.

use std::collections::BTreeMap;

use belfry_tests::Stack;
use serde_json::Value;

use crate::findings::Findings;
use crate::options::Options;

/// The shortest run that shows growth.
const MINUTES: f64 = 5.0;

/// What the local stack may need for a message that it keeps, in bytes.
const BYTES_PER_MESSAGE: f64 = 8_192.0;

/// How much of the memory noise may be.
const NOISE: f64 = 0.1;

/// What a function's memory may differ by itself: its process may be a new one.
const FUNCTION_NOISE_KB: f64 = 1_024.0;

#[derive(Debug, Clone)]
struct Sample {
    /// The local stack's resident memory, in KB.
    stack: f64,
    /// That of the largest process of each function, by its program.
    functions: BTreeMap<String, f64>,
    files: f64,
    /// Messages that are kept.
    messages: f64,
}

#[derive(Debug, Default)]
pub(crate) struct Growth {
    samples: Vec<Sample>,
}

impl Growth {
    pub(crate) fn sample(&mut self, stack: &Stack, progress: &Value) {
        let mut processes = stack.functions_memory_kb();
        processes.sort_unstable();
        let functions = processes.into_iter().map(|(kb, name)| (name, float(kb)));
        self.samples.push(Sample {
            stack: float(stack.memory_kb()),
            functions: functions.collect(),
            files: float(stack.open_files() as u64),
            messages: progress["acknowledged"].as_f64().unwrap_or_default(),
        });
    }

    /// The second half of the run, when everything is warm: the middle of its
    /// first third and of its last third.
    fn ends(&self) -> Option<(Sample, Sample)> {
        let warm = &self.samples[self.samples.len() / 2..];
        let third = warm.len() / 3;
        (third > 0).then(|| (median(&warm[..third]), median(&warm[warm.len() - third..])))
    }

    pub(crate) fn check(&self, options: &Options, findings: &mut Findings) {
        let Some((first, last)) = self.ends().filter(|_| options.minutes >= MINUTES) else {
            return;
        };
        let kept = (last.messages - first.messages) * BYTES_PER_MESSAGE / 1_024.0;
        findings.check(last.stack <= first.stack * (1.0 + NOISE) + kept, || {
            format!(
                "the stack's memory grew from {} to {} KB",
                first.stack, last.stack
            )
        });
        for (name, last) in &last.functions {
            let first = first.functions.get(name).unwrap_or(last);
            findings.check(*last <= first * (1.0 + NOISE) + FUNCTION_NOISE_KB, || {
                format!("the memory of {name} grew from {first} to {last} KB")
            });
        }
        findings.check(last.files <= first.files * (1.0 + NOISE) + 50.0, || {
            format!("open files grew from {} to {}", first.files, last.files)
        });
    }

    pub(crate) fn table(&self) -> String {
        let Some((first, last)) = self.ends() else {
            return "too short to see growth".into();
        };
        let line = |name: &str, first: f64, last: f64| {
            format!("{name:<40} {first:>10.0} then {last:>10.0}")
        };
        let mut lines = vec![line("the stack's memory, KB", first.stack, last.stack)];
        for (name, last) in &last.functions {
            let first = first.functions.get(name).unwrap_or(last);
            lines.push(line(&format!("the memory of {name}, KB"), *first, *last));
        }
        lines.push(line("open files of the stack", first.files, last.files));
        lines.push(line("messages kept", first.messages, last.messages));
        lines.join("\n")
    }
}

fn float(number: u64) -> f64 {
    f64::from(u32::try_from(number).expect("below 4 TB"))
}

fn median(samples: &[Sample]) -> Sample {
    let middle = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let of = |field: fn(&Sample) -> f64| middle(samples.iter().map(field).collect());
    let mut functions: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (name, kb) in samples.iter().flat_map(|sample| &sample.functions) {
        functions.entry(name.clone()).or_default().push(*kb);
    }
    let functions = functions.into_iter().map(|(name, kb)| (name, middle(kb)));
    Sample {
        stack: of(|sample| sample.stack),
        functions: functions.collect(),
        files: of(|sample| sample.files),
        messages: of(|sample| sample.messages),
    }
}
