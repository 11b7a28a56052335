#!/usr/bin/env bash
# A newcomer's first hour with lakefeed, in a shell: deliveries become versions, versions are looked at and compared, a
# training run stops and goes on, a table gets a key, a folder becomes a version. It works in a folder of its own and
# removes it at the end.
#
#     pip install './sdk[media,torch]'
#     bash examples/first_hour.sh
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export LAKEFEED_HOME=$work/lake LAKEFEED_CACHE_DIR=$work/cache
cd "$work"

step() { printf '\n# %s\n' "$*"; }

step "A delivery of pictures, in folders that are named by their labels"
python - <<'PYTHON'
from pathlib import Path

from PIL import Image

for number in range(60):
    label = ("cat", "dog", "owl")[number % 3]
    Path(label).mkdir(exist_ok=True)
    width = 100 + number * 10
    Image.new("RGB", (width, 100), (number * 4, 80, 160)).save(f"{label}/{number:02}.png")
PYTHON

step "They become the first version of a dataset; a fourth label comes later"
lakefeed add photos cat dog owl --column image --label-from parent -m 'First delivery'
mkdir fox && cp cat/00.png fox/60.png
lakefeed add photos fox --column image --label-from parent -m 'A fox'
lakefeed ls
lakefeed log photos
lakefeed schema photos

step "Ask: rows, counts, statistics, SQL"
lakefeed head photos -n 3 -w 'image.width >= 512' -c label
test "$(lakefeed count photos -w 'image.width >= 512')" = 18
lakefeed profile photos
lakefeed sql 'SELECT label, count(*) AS files, max(image.width) AS widest FROM photos GROUP BY label ORDER BY label'

step "Compare two versions, name one, look at what was added"
lakefeed diff photos@1 photos@2 --rows 2 --exit-code || test $? = 10
lakefeed tag photos@1 reviewed
lakefeed added photos@2 -c label
test "$(lakefeed count photos@reviewed)" = 60

step "Train on the reviewed version; stop in the middle of an epoch; a new process goes on with the rows not seen yet"
cat > train.py <<'PYTHON'
import hashlib
import json
import sys
from pathlib import Path

from lakefeed import Dataset

state = Path("checkpoint.json")
rows = Dataset("photos", version="reviewed").load_files("bytes")
loader = rows.shuffle(seed=1).to_torch(batch_size=8)
if state.exists():
    loader.load_state_dict(json.loads(state.read_text()))
with open("seen.txt", "a") as seen:
    for step, batch in enumerate(loader, start=1):
        seen.writelines(hashlib.sha256(image).hexdigest() + "\n" for image in batch["image"])
        if step == int(sys.argv[1]):
            state.write_text(json.dumps(loader.state_dict()))
            break
PYTHON
python train.py 3
test "$(wc -l < seen.txt)" = 24
python train.py 1000
test "$(wc -l < seen.txt)" = 60
test "$(sort -u seen.txt | wc -l)" = 60

step "A table with a key: writes replace the columns that they name"
python - <<'PYTHON'
import pyarrow as pa

import lakefeed

pages = lakefeed.connect().create_table("pages", key_schema={"url": pa.string()})
pages.write({"url": ["a", "b"], "title": ["A", "B"]})
pages.write({"url": ["b", "c"], "views": [7, 9]})
print(pages.scan().to_table().to_pylist())
PYTHON
lakefeed head pages

step "A folder as a version: small changes are small"
python - <<'PYTHON'
from pathlib import Path

from lakefeed.trees import Dataset

tree = Dataset.create(dataset_project="pets", dataset_name="raw")
tree.add_files("cat")
tree.upload(show_progress=False)
tree.finalize()
child = Dataset.create(dataset_project="pets", dataset_name="raw", parent_datasets=[tree])
Path("cat/new.txt").write_text("one more")
print("removed, changed:", child.sync_folder("cat"))
child.upload(show_progress=False)
child.finalize()
print(child.version, child.list_added_files(), Path(child.get_local_copy(), "new.txt").read_text())
PYTHON

step "Mistakes say what exists"
lakefeed log photo || test $? = 4
lakefeed head photos -w 'image.widht > 3' || test $? = 1

step "Back to an old version, out again as files, and care"
lakefeed restore photos@reviewed -m 'Without the fox'
lakefeed export photos owls --files -w "label = 'owl'"
test "$(find owls -name '*.png' | wc -l)" = 20
lakefeed verify photos --files
lakefeed gc --dry-run
lakefeed doctor || test $? = 10
