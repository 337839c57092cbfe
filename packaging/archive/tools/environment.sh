# Sets `venv` to the virtual environment of `release`, and creates it if it is
# missing or incomplete, or if the release was moved: its scripts have its path.
export SAM_CLI_TELEMETRY=0
venv=$release/.venv
if [ "$(cat "$venv/.installed" 2>/dev/null)" != "$venv" ]; then
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "python3 is missing or too old: install Python 3.11 or later." >&2
    exit 1
  }
  echo "Installing the SAM CLI in $venv…"
  python3 -m venv --clear "$venv" || {
    echo "Python's module venv is missing; on Debian and Ubuntu: apt install python3-venv" >&2
    exit 1
  }
  # Python compiles what it uses, which is little of all that.
  "$venv/bin/pip" install --quiet --disable-pip-version-check --no-compile --requirement "$release/requirements.txt"
  printf %s "$venv" >"$venv/.installed"
fi
