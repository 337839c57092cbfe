#!/usr/bin/env node
// Starts the program `belfry` of the package for this platform.

import { spawn } from "node:child_process";
import { createRequire } from "node:module";
import { constants } from "node:os";
import { dirname, join } from "node:path";

const platform = `@belfry/${process.platform}-${process.arch}`;

function fail(problem) {
  console.error(`belfry: ${problem}`);
  process.exit(1);
}

function program() {
  const require = createRequire(import.meta.url);
  try {
    return join(dirname(require.resolve(`${platform}/package.json`)), "belfry");
  } catch {
    fail(
      `the package ${platform} is not installed.\n` +
        "Belfry has packages for Linux on x64 and arm64. npm leaves them out with --omit=optional.",
    );
  }
}

// The name is the one that people type, for the commands that `belfry run` shows.
const belfry = spawn(program(), process.argv.slice(2), { argv0: "npx belfry", stdio: "inherit" });
belfry.on("error", (error) => fail(`cannot start the program of ${platform}: ${error.message}`));
belfry.on("exit", (code, signal) => process.exit(code ?? 128 + constants.signals[signal]));

for (const signal of ["SIGHUP", "SIGINT", "SIGTERM"]) {
  process.on(signal, () => {
    // A terminal sends Ctrl-C and its own end to the program, too, which stops at
    // once after a second signal.
    if (signal === "SIGTERM" || !process.stdin.isTTY) belfry.kill(signal);
  });
}
