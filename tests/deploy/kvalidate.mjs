// SPDX-License-Identifier: Apache-2.0
// kvalidate: strict offline check of Kubernetes manifests.
//  unknown fields + primitive types: @kubernetes/client-node's generated attributeTypeMap
//  required fields, patterns, enums: kubernetes-models (JSON-Schema compiled by ajv)
import fs from 'node:fs';
import * as k8s from './node_modules/@kubernetes/client-node/dist/gen/models/all.js';
import YAML from 'yaml';
/* Custom resources, whose types nobody here knows: name, labels and that there is a spec. */
const CUSTOM = new Set(['monitoring.coreos.com/v1 ServiceMonitor']);
let bad = 0;
const err = (w, m) => { console.error(`${w}: ${m}`); bad++; };
const prim = {string: v => typeof v === 'string', number: v => typeof v === 'number', boolean: v => typeof v === 'boolean',
  Date: v => typeof v === 'string', any: () => true, object: () => true, IntOrString: v => ['string', 'number'].includes(typeof v),
  Quantity: v => ['string', 'number'].includes(typeof v)};
function walk(v, type, path) {
  let m;
  if (v === null || v === undefined) return;
  if ((m = /^Array<(.*)>$/.exec(type))) { if (!Array.isArray(v)) return err(path, 'not a list'); return v.forEach((x, i) => walk(x, m[1], `${path}[${i}]`)); }
  if ((m = /^(?:\{ \[key: string\]: (.*); \}|Set<.*>)$/.exec(type))) { for (const [k, x] of Object.entries(v)) walk(x, m[1], `${path}.${k}`); return; }
  if (prim[type]) { if (!prim[type](v)) err(path, `want ${type}, got ${JSON.stringify(v)}`); return; }
  const c = k8s[type];
  if (!c?.getAttributeTypeMap) return;                       // open type
  if (typeof v !== 'object') return err(path, `want ${type}`);
  const f = Object.fromEntries(c.getAttributeTypeMap().map(a => [a.baseName, a.type]));
  for (const [k, x] of Object.entries(v)) k in f ? walk(x, f[k], `${path}.${k}`) : err(path, `unknown field "${k}"`);
}
const seen = new Set();
for (const f of process.argv.slice(2))
  for (const d of YAML.parseAllDocuments(fs.readFileSync(f, 'utf8'), {uniqueKeys: true})) {
    d.errors.forEach(e => err(f, e.message));
    const o = d.toJS(); if (!o) continue;
    const id = `${o.kind}/${o.metadata?.name}`;
    if (seen.has(id)) err(id, 'duplicate'); seen.add(id);
    if (CUSTOM.has(`${o.apiVersion} ${o.kind}`)) { if (!o.spec) err(id, 'no spec'); continue; }
    const ver = String(o.apiVersion).split('/').pop();
    const cls = ver[0].toUpperCase() + ver.slice(1) + o.kind;
    if (!k8s[cls]) { err(id, `no such kind ${o.apiVersion} ${o.kind}`); continue; }
    walk(o, cls, id);
    try { const M = (await import(`kubernetes-models/${o.apiVersion}/${o.kind}`))[o.kind]; new M(o).validate(); }
    catch (e) { err(id, e.message); }
    if (!/^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/.test(o.metadata?.name ?? '')) err(id, 'bad metadata.name');
  }
console.log(`${seen.size} objects, ${bad} problems`); process.exit(bad ? 1 : 0);
