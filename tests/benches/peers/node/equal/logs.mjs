// Log lines, and metrics in CloudWatch's embedded metric format.
const Stack = process.env.STACK_NAME;

export function log(level, event, message, fields) {
  console.log(JSON.stringify({ timestamp: new Date().toISOString(), level, event, ...fields, message }));
}

// One line with these metrics; `detail` is a dimension besides the stack.
export function record(metrics, detail = {}) {
  const definitions = [];
  for (const Name of Object.keys(metrics)) {
    definitions.push({ Name, Unit: /Latency$|Duration$/.test(Name) ? "Milliseconds" : "Count" });
  }
  const directive = {
    Namespace: "Belfry",
    Dimensions: [["Stack", ...Object.keys(detail)]],
    Metrics: definitions,
  };
  const _aws = { Timestamp: Date.now(), CloudWatchMetrics: [directive] };
  console.log(JSON.stringify({ Stack, ...detail, _aws, ...metrics }));
}
