//! Memory and open files over the run.

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

#[derive(Debug, Clone, Copy)]
struct Sample {
    /// The local stack's resident memory, in KB.
    stack: f64,
    /// That of its largest process, a function.
    function: f64,
    files: f64,
    /// Messages that are kept.
    messages: f64,
}

#[derive(Debug, Default)]
pub(crate) struct Growth {
    samples: Vec<Sample>,
    /// The name of the largest function's program.
    largest: String,
}

impl Growth {
    pub(crate) fn sample(&mut self, stack: &Stack, progress: &Value) {
        let largest = stack.functions_memory_kb().into_iter().max();
        let (function, name) = largest.unwrap_or_default();
        self.largest = name;
        self.samples.push(Sample {
            stack: float(stack.memory_kb()),
            function: float(function),
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
        findings.check(last.function <= first.function * (1.0 + NOISE), || {
            let (first, last) = (first.function, last.function);
            format!(
                "the memory of {} grew from {first} to {last} KB",
                self.largest
            )
        });
        findings.check(last.files <= first.files * (1.0 + NOISE) + 50.0, || {
            format!("open files grew from {} to {}", first.files, last.files)
        });
    }

    pub(crate) fn table(&self) -> String {
        let Some((first, last)) = self.ends() else {
            return "too short to see growth".into();
        };
        let line = |name: &str, of: fn(&Sample) -> f64| {
            format!("{name:<40} {:>10.0} then {:>10.0}", of(&first), of(&last))
        };
        let largest = format!("the memory of {}, KB", self.largest);
        [
            line("the stack's memory, KB", |sample| sample.stack),
            line(&largest, |sample| sample.function),
            line("open files of the stack", |sample| sample.files),
            line("messages kept", |sample| sample.messages),
        ]
        .join("\n")
    }
}

fn float(number: u64) -> f64 {
    f64::from(u32::try_from(number).expect("below 4 TB"))
}

fn median(samples: &[Sample]) -> Sample {
    let of = |field: fn(&Sample) -> f64| {
        let mut values: Vec<_> = samples.iter().map(field).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    Sample {
        stack: of(|sample| sample.stack),
        function: of(|sample| sample.function),
        files: of(|sample| sample.files),
        messages: of(|sample| sample.messages),
    }
}
