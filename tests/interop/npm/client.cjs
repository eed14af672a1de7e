// Does with a JavaScript client what lines of JSON on stdin say, and answers each by a line.
//
//     node client.cjs FOLDER PACKAGE URL
//
// {"store": path} → {"status", "body"}; {"retrieve": {study, series, instance}, "to": path} → {"bytes"} or {"error"}

const fs = require('node:fs');
const path = require('node:path');
const readline = require('node:readline');

const [folder, name, url] = process.argv.slice(2);
const load = (what) => require(path.join(folder, 'node_modules', what));
// the clients do not tell the status when they are pleased
let last;
global.XMLHttpRequest = class extends load('xhr2') {
  constructor() {
    super();
    last = this;
  }
};
// what it tells the developer of a page is no answer
for (const level of ['log', 'info', 'warn', 'error', 'debug']) console[level] = () => {};
const client = new (load(name).api.DICOMwebClient)({ url });

async function store(file) {
  const data = fs.readFileSync(file);
  const dataset = data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength);
  try {
    const body = await client.storeInstances({ datasets: [dataset] });
    return { status: last.status, body };
  } catch (error) {
    if (error.status === undefined) return { error: String(error) };
    return { status: error.status, body: error.response };
  }
}

async function retrieve({ study, series, instance }, to) {
  try {
    const names = { studyInstanceUID: study, seriesInstanceUID: series, sopInstanceUID: instance };
    const bytes = Buffer.from(await client.retrieveInstance(names));
    fs.writeFileSync(to, bytes);
    return { bytes: bytes.length };
  } catch (error) {
    return { error: `${error} ${error.status ?? ''}` };
  }
}

(async () => {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const order = JSON.parse(line);
    const answer = order.store ? await store(order.store) : await retrieve(order.retrieve, order.to);
    process.stdout.write(`${JSON.stringify(answer)}\n`);
  }
})();
