// SPDX-License-Identifier: Apache-2.0
// The same hybrid questions (words and a vector, fused by reciprocal rank, with filters on family and
// technique) to ksearchd over its socket, to SQLite with sqlite-vec and FTS5, and to PGlite with pgvector,
// the last two in this process. Rounds take turns; prints one figure a line: name, value, unit, samples.
//   node compare.mjs --export DIR --socket PATH [--queries 1000] [--others 200] [--rounds 3] [--without pglite]
import fs from 'node:fs';
import net from 'node:net';
import readline from 'node:readline';

const DIM = 256, POOL = 100, K = 10, RRF = 60;
const options = { queries: 1000, rounds: 3, others: 200, without: '' };
for (let i = 2; i + 1 < process.argv.length; i += 2)
  options[process.argv[i].slice(2)] = process.argv[i + 1];
for (const name of ['export', 'socket'])
  if (!options[name]) { console.error(`compare: --${name} is needed`); process.exit(2); }

function lines(file) {
  return fs.readFileSync(`${options.export}/${file}`, 'utf8').trimEnd().split('\n').map((l) => JSON.parse(l));
}
function vectors(file) {
  const b = fs.readFileSync(`${options.export}/${file}`);
  return new Int8Array(b.buffer, b.byteOffset, b.length);
}
const docs = lines('docs.jsonl'), docVectors = vectors('docs.i8');
const questions = lines('questions.jsonl').slice(0, Number(options.queries));
const questionVectors = vectors('questions.i8');
const vectorOf = (all, i) => all.subarray(i * DIM, (i + 1) * DIM);
const unit = (v) => {
  let s = 0;
  for (const x of v) s += x * x;
  return Float32Array.from(v, (x) => x / Math.sqrt(s || 1));
};
const passes = (d, q) => (!q.family || d.family === q.family || d.family === '')
  && (!q.technique || d.technique === q.technique);
const figure = (name, value, u, n) => console.log(`${name} ${Number(value.toPrecision(4))} ${u} ${n}`);
const median = (a) => [...a].sort((x, y) => x - y)[Math.floor((a.length - 1) / 2)];

// The fusion that the two other systems are given: ids by reciprocal rank in both lists.
function fuse(a, b) {
  const score = new Map();
  for (const list of [a, b]) list.forEach((id, i) => score.set(id, (score.get(id) ?? 0) + 1 / (RRF + i + 1)));
  return [...score].sort((x, y) => y[1] - x[1]).slice(0, K).map((x) => x[0]);
}

// ---- ksearchd: one connection, JSON-RPC lines ----

async function openDaemon() {
  const socket = net.createConnection(options.socket);
  const waiting = [];
  let id = 0;
  await new Promise((ok, no) => { socket.once('connect', ok); socket.once('error', no); });
  readline.createInterface({ input: socket, crlfDelay: Infinity }).on('line', (l) => waiting.shift()(JSON.parse(l)));
  const call = (method, params) => new Promise((ok, no) => {
    waiting.push((m) => (m.error ? no(new Error(m.error.message)) : ok(m.result)));
    socket.write(`${JSON.stringify({ jsonrpc: '2.0', id: ++id, method, params })}\n`);
  });
  await call('hello', { version: 1 });
  return {
    name: 'ksearchd',
    ask: async (q) => {
      const p = { text: q.text, limit: K };
      if (q.task) p.task = q.task;
      if (q.technique) p.technique = q.technique;
      return (await call('query', p)).hits.map((h) => h.insight);
    },
    close: () => socket.end(),
  };
}

// ---- SQLite: vec0 with bytes and metadata columns, FTS5 with the Porter stemmer ----

async function openSqlite() {
  const { default: Database } = await import('better-sqlite3');
  const sqliteVec = await import('sqlite-vec');
  const db = new Database(':memory:');
  sqliteVec.load(db);
  db.exec(`create virtual table v using vec0(e int8[${DIM}] distance_metric=cosine, family text, technique text);
    create table d(id integer primary key, family text, technique text); create index d_technique on d(technique);
    create virtual table t using fts5(body, content = '', tokenize = 'porter unicode61')`);
  const began = performance.now();
  const addV = db.prepare('insert into v(rowid, e, family, technique) values (?, vec_int8(?), ?, ?)');
  const addT = db.prepare('insert into t(rowid, body) values (?, ?)'), addD = db.prepare('insert into d values (?, ?, ?)');
  db.transaction(() => docs.forEach((d, i) => {
    addV.run(BigInt(i + 1), Buffer.from(vectorOf(docVectors, i)), d.family, d.technique);
    addT.run(i + 1, d.text);
    addD.run(i + 1, d.family, d.technique);
  }))();
  db.exec("insert into t(t) values ('optimize')");
  figure('sqlite_load', (performance.now() - began) / 1000, 's', docs.length);
  const where = (q) => (q.family ? " and family in (@family, '')" : '') + (q.technique ? ' and technique = @technique' : '');
  const prepared = new Map();
  const statement = (sql) => { if (!prepared.has(sql)) prepared.set(sql, db.prepare(sql).pluck()); return prepared.get(sql); };
  const bind = (q, more) => ({ ...more, ...(q.family && { family: q.family }), ...(q.technique && { technique: q.technique }) });
  const near = (q, i) => statement(`select rowid from v where e match vec_int8(@e) and k = ${POOL}${where(q)} order by distance`)
    .all(bind(q, { e: Buffer.from(vectorOf(questionVectors, i)) }));
  const words = (q) => statement(`select t.rowid from t${q.family || q.technique ? ' join d on d.id = t.rowid' : ''} where t match @m${where(q)} order by rank limit ${POOL}`)
    .all(bind(q, { m: q.words.map((w) => `"${w.replaceAll('"', '')}"`).join(' OR ') }));
  return { name: 'sqlite', near: async (q, i) => near(q, i).map((r) => r - 1), ask: async (q, i) => fuse(words(q), near(q, i)), close: () => db.close() };
}

// ---- PGlite: PostgreSQL in WebAssembly, pgvector's IVFFlat, and its own text search ----

async function openPglite() {
  const { PGlite } = await import('@electric-sql/pglite');
  const { vector } = await import('@electric-sql/pglite-pgvector');
  const pg = new PGlite({ extensions: { vector } });
  await pg.exec(`create extension vector; create table d(id int primary key, body tsvector, family text, technique text, e vector(${DIM}))`);
  const began = performance.now();
  for (let at = 0; at < docs.length; at += 1000) {
    const rows = [], values = [];
    for (let i = at; i < Math.min(at + 1000, docs.length); i++) {
      const n = values.length;
      rows.push(`($${n + 1}, to_tsvector('english', $${n + 2}), $${n + 3}, $${n + 4}, $${n + 5})`);
      values.push(i, docs[i].text, docs[i].family, docs[i].technique, `[${Array.from(unit(vectorOf(docVectors, i)), (x) => x.toFixed(6)).join(',')}]`);
    }
    await pg.query(`insert into d values ${rows.join(',')}`, values);
  }
  await pg.exec(`create index on d using gin(body); create index on d(technique); create index on d(family);
    set maintenance_work_mem = '256MB'; create index on d using ivfflat (e vector_cosine_ops) with (lists = 316);
    analyze d; set ivfflat.probes = 20; set ivfflat.iterative_scan = relaxed_order`);
  figure('pglite_load', (performance.now() - began) / 1000, 's', docs.length);
  const run = async (sql, values) => (await pg.query(sql, values)).rows.map((r) => r.id);
  const where = (q, values) => {
    let s = '';
    if (q.family) s += ` and family in ($${values.push(q.family)}, '')`;
    if (q.technique) s += ` and technique = $${values.push(q.technique)}`;
    return s;
  };
  const near = (q, i) => {
    const values = [`[${Array.from(unit(vectorOf(questionVectors, i)), (x) => x.toFixed(6)).join(',')}]`];
    return run(`select id from d where true${where(q, values)} order by e <=> $1::vector limit ${POOL}`, values);
  };
  const words = (q) => {
    const values = [q.words.map((w) => w.replace(/[^\p{L}\p{N}]/gu, '')).filter(Boolean).join(' | ')];
    return run(`select id from d, to_tsquery('english', $1) s where body @@ s${where(q, values)} order by ts_rank(body, s) desc limit ${POOL}`, values);
  };
  return { name: 'pglite', near, ask: async (q, i) => fuse(await words(q), await near(q, i)), close: () => pg.close() };
}

// ---- Exact, for recall: what passes, by cosine ----

function exactNear(q, i) {
  const e = unit(vectorOf(questionVectors, i)), found = [];
  for (let d = 0; d < docs.length; d++) {
    if (!passes(docs[d], q)) continue;
    const v = vectorOf(docVectors, d);
    let dot = 0, sq = 0;
    for (let k = 0; k < DIM; k++) { dot += e[k] * v[k]; sq += v[k] * v[k]; }
    found.push([dot / Math.sqrt(sq || 1), d]);
  }
  return found.sort((x, y) => y[0] - x[0]).slice(0, K);
}

async function recall(system, n) {
  let found = 0, all = 0;
  for (let i = 0; i < n; i++) {
    const truth = exactNear(questions[i], i), got = new Set((await system.near(questions[i], i)).slice(0, K));
    all += truth.length;
    for (const [, d] of truth) found += got.has(d);
  }
  figure(`${system.name}_vector_recall_at_10`, found / all, 'share', n);
}

async function round(system, n) {
  const ms = [], began = performance.now();
  let hits = 0;
  for (let i = 0; i < n; i++) {
    const t = performance.now();
    hits += (await system.ask(questions[i], i)).length;
    ms.push(performance.now() - t);
  }
  return { rate: n / ((performance.now() - began) / 1000), p50: median(ms), hits: hits / n };
}

const systems = [];
for (const [name, open] of [['ksearchd', openDaemon], ['sqlite', openSqlite], ['pglite', openPglite]])
  if (!options.without.split(',').includes(name)) systems.push(await open());
const results = new Map(systems.map((s) => [s.name, []]));
for (let r = 0; r < Number(options.rounds); r++)
  for (const s of systems) {
    const n = s.name === 'ksearchd' ? questions.length : Math.min(questions.length, Number(options.others));
    const got = await round(s, n);
    results.get(s.name).push(got);
    console.error(`round ${r + 1}: ${s.name} ${got.rate.toFixed(1)} 1/s`);
  }
for (const s of systems) {
  const all = results.get(s.name);
  figure(`${s.name}_throughput`, median(all.map((x) => x.rate)), '1/s', all.length);
  figure(`${s.name}_p50`, median(all.map((x) => x.p50)), 'ms', all.length);
  figure(`${s.name}_hits`, all[0].hits, 'hits', all.length);
}
const rate = (name) => (results.has(name) ? median(results.get(name).map((x) => x.rate)) : 0);
const best = Math.max(rate('sqlite'), rate('pglite'));
if (best > 0 && rate('ksearchd') > 0) figure('ksearchd_over_faster_other', rate('ksearchd') / best, 'times', Number(options.rounds));
for (const s of systems)
  if (s.near) await recall(s, Math.min(questions.length, 100));
for (const s of systems) await s.close();
