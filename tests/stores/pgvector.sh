#!/usr/bin/env bash
# Puts the PostgreSQL of this machine (Debian's packages) and pgvector together in a folder:
#
#   tests/stores/pgvector.sh FOLDER
#
# Nothing is installed on the machine and no root is needed: programs of PostgreSQL find their files
# relative to themselves, so a copy of them takes an extension as the original would. pgvector is
# Debian's package where the release has one for this PostgreSQL (13, trixie, has). Elsewhere
# (12, bookworm) the source package of trixie is built, which needs gcc and make, with the headers
# of the installed server. apt checks the signatures of all of it.
set -euo pipefail

folder=$(realpath -m "$1")
program=$(find /usr/lib/postgresql/*/bin/postgres 2>/dev/null | sort -V | tail -1)
if [ -z "$program" ]; then
    echo "no PostgreSQL: apt-get install postgresql" >&2
    exit 3
fi
version=$(basename "$(dirname "$(dirname "$program")")")
if [ -x "$folder/usr/lib/postgresql/$version/bin/postgres" ] &&
    [ -f "$folder/usr/share/postgresql/$version/extension/vector.control" ]; then
    exit 0
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
made=$work/made
mkdir -p "$made/usr/lib/postgresql" "$made/usr/share/postgresql"
cp -r "/usr/lib/postgresql/$version" "$made/usr/lib/postgresql/"
cp -r "/usr/share/postgresql/$version" "$made/usr/share/postgresql/"
cd "$work"

if [ -f "$made/usr/share/postgresql/$version/extension/vector.control" ]; then
    echo "pgvector is installed"
elif apt-get download "postgresql-$version-pgvector" 2>/dev/null; then
    dpkg -x ./*pgvector*.deb "$made"
else
    mkdir -p lists/partial cache/archives/partial
    key=/usr/share/keyrings/debian-archive-keyring.gpg
    echo "deb-src [signed-by=$key] http://deb.debian.org/debian trixie main" >sources.list
    options=(-o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts=/dev/null
        -o Dir::State::lists="$work/lists" -o Dir::Cache="$work/cache" -qq)
    apt-get "${options[@]}" update
    apt-get "${options[@]}" source --download-only pgvector
    installed=$(dpkg-query --show --showformat='${Version}' "postgresql-$version")
    apt-get download -qq "postgresql-server-dev-$version=$installed"
    dpkg -x ./postgresql-server-dev-*.deb "$made"
    mkdir source
    tar -xf pgvector_*.orig.tar.* -C source --strip-components=1
    config=$made/usr/lib/postgresql/$version/bin/pg_config
    [ -x "$config" ] || cp "$(command -v pg_config)" "$config"
    make -C source --quiet PG_CONFIG="$config" OPTFLAGS= with_llvm=no
    make -C source --quiet PG_CONFIG="$config" with_llvm=no install
fi
mkdir -p "$(dirname "$folder")"
rm -rf "$folder"
mv "$made" "$folder"
