// The graph of a flow: its jobs in layers, each after all that it comes after.
import type { FlowJob } from './api.ts';
import type { State } from './filter.ts';

/** Jobs of a kind with the same parents and children that are drawn one by one; more are folded into one. */
export const FAN_MAX = 8;
/** Most jobs that are drawn at all without being folded. */
export const UNFOLDED_MAX = 200;

/** A job, or several that are folded into one. */
export interface Node {
  /** Id of its first job. */
  key: string;
  jobs: readonly FlowJob[];
  layer: number;
  /** Place within its layer, from the top. */
  row: number;
}

/** `wait`: the child still waits for it; `bad`: the parent is dead or cancelled. */
export interface Edge {
  from: Node;
  to: Node;
  is: 'done' | 'wait' | 'bad';
  onFailure: 'fail' | 'ignore' | 'hold';
}

export interface Graph {
  /** In topological order. */
  nodes: readonly Node[];
  edges: readonly Edge[];
  layers: number;
  /** Most nodes of a layer. */
  rows: number;
}

/** Returns the layer of each job: one more than the last of those that it comes after. */
export function layersOf(jobs: readonly FlowJob[]): Map<string, number> {
  const layers = new Map<string, number>();
  const waits = new Map<string, number>();
  const children = new Map<string, string[]>();
  const known = new Set(jobs.map((job) => job.id));
  for (const job of jobs) {
    // What is kept no more holds nobody back.
    const parents = job.after.filter((of) => known.has(of.id));
    waits.set(job.id, parents.length);
    for (const { id } of parents) children.set(id, [...(children.get(id) ?? []), job.id]);
    if (parents.length === 0) layers.set(job.id, 0);
  }
  const free = [...layers.keys()];
  for (let at = 0; at < free.length; at++) {
    const id = free[at] ?? '';
    for (const child of children.get(id) ?? []) {
      layers.set(child, Math.max(layers.get(child) ?? 0, (layers.get(id) ?? 0) + 1));
      const left = (waits.get(child) ?? 0) - 1;
      waits.set(child, left);
      if (left === 0) free.push(child);
    }
  }
  return layers;
}

/** The state that says most of several: what needs somebody first, what is done last. */
const TELLING: readonly State[] = ['dead', 'leased', 'ready', 'scheduled', 'blocked', 'cancelled', 'succeeded'];

export const stateOf = (jobs: readonly FlowJob[]): State => TELLING.find((state) => jobs.some((job) => job.state === state)) ?? 'blocked';

const isFinal = (state: State): boolean => state === 'succeeded' || state === 'dead' || state === 'cancelled';

/** Lays out a flow. With `fold`, jobs that are alike are one node where they are many. */
export function graphOf(jobs: readonly FlowJob[], fold: boolean): Graph {
  const layers = layersOf(jobs);
  const children = new Map<string, string[]>();
  for (const job of jobs) for (const { id } of job.after) children.set(id, [...(children.get(id) ?? []), job.id]);

  const alike = new Map<string, FlowJob[]>();
  for (const job of jobs) {
    const like = JSON.stringify([layers.get(job.id), job.kind, job.after.map((of) => of.id).sort(), (children.get(job.id) ?? []).sort()]);
    alike.set(like, [...(alike.get(like) ?? []), job]);
  }
  const nodes: Node[] = [];
  const nodeOf = new Map<string, Node>();
  for (const group of alike.values()) {
    for (const part of fold && group.length > FAN_MAX ? [group] : group.map((job) => [job])) {
      const key = part[0]?.id ?? '';
      const node: Node = { key, jobs: part, layer: layers.get(key) ?? 0, row: 0 };
      nodes.push(node);
      for (const job of part) nodeOf.set(job.id, node);
    }
  }

  const byLayer: Node[][] = [];
  for (const node of nodes) (byLayer[node.layer] ??= []).push(node);
  for (const layer of byLayer) {
    // Each stands about where its parents do, so that few edges cross.
    const wanted = new Map(layer.map((node, at) => {
      const rows = node.jobs.flatMap((job) => job.after.flatMap(({ id }) => nodeOf.get(id)?.row ?? []));
      return [node, rows.length === 0 ? at : rows.reduce((sum, row) => sum + row, 0) / rows.length] as const;
    }));
    layer.sort((one, other) => (wanted.get(one) ?? 0) - (wanted.get(other) ?? 0));
    for (const [row, node] of layer.entries()) node.row = row;
  }

  const edges = new Map<string, Edge>();
  for (const job of jobs) {
    const to = nodeOf.get(job.id);
    for (const { id, on_failure: onFailure } of job.after) {
      const from = nodeOf.get(id);
      if (!from || !to) continue;
      const state = stateOf(from.jobs);
      const is = state === 'dead' || state === 'cancelled' ? 'bad' : from.jobs.every((of) => isFinal(of.state)) ? 'done' : 'wait';
      edges.set(`${from.key} ${to.key} ${onFailure}`, { from, to, is, onFailure });
    }
  }
  return {
    nodes: byLayer.flat(),
    edges: [...edges.values()],
    layers: byLayer.length,
    rows: Math.max(0, ...byLayer.map((layer) => layer.length)),
  };
}
