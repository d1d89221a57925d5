# Shared by the scripts that fetch packages aside: which mirror this machine uses. It changes nothing.
# shellcheck shell=bash

# own_mirror CODENAME [APT_FOLDER]: prints "URI SIGNED_BY" of the first apt source of packages (not of sources) that
# carries that release's main component.
own_mirror() {
  local codename=$1 apt=${2:-/etc/apt} file
  for file in "$apt"/sources.list.d/*.sources; do
    if [ -e "$file" ]; then cat "$file"; fi
    printf '\n\n' # a stanza ends with its file, whether or not that ends in an empty line
  done | awk -v want="$codename" '
    function flush() { if (enabled && !done && match(suites " ", "(^| )" want " ") && components ~ /(^| )main( |$)/) { print uri, key; done = 1 }
                       uri = key = suites = components = ""; enabled = 1 }
    BEGIN { enabled = 1 }
    /^[ \t]*$/ { flush(); next }
    tolower($1) == "types:" { enabled = enabled && /[ \t]deb([ \t]|$)/ }
    tolower($1) == "uris:" { uri = $2 }
    tolower($1) == "signed-by:" && NF > 1 { key = $2 }
    tolower($1) == "suites:" { suites = " "; for (i = 2; i <= NF; i++) suites = suites $i " " }
    tolower($1) == "components:" { components = " "; for (i = 2; i <= NF; i++) components = components $i " " }
    tolower($1) == "enabled:" && tolower($2) == "no" { enabled = 0 }
    END { flush() }'
  { cat "$apt"/sources.list "$apt"/sources.list.d/*.list 2>/dev/null || true; } | awk -v want="$codename" '
    $1 == "deb" {
      key = ""; line = $0; sub(/^deb[ \t]+/, "", line)
      if (line ~ /^\[/) {
        options = line; sub(/\].*/, "", options); sub(/^[^]]*\][ \t]*/, "", line)
        if (match(options, /signed-by=[^] ]+/)) key = substr(options, RSTART + 10, RLENGTH - 10)
      }
      n = split(line, part, /[ \t]+/)
      if (n > 2 && part[2] == want && part[3] == "main") { print part[1], key; exit }
    }'
}
