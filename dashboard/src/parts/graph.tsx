import type { JSX } from 'preact';
import { useRef, useState } from 'preact/hooks';
import { graphOf, stateOf, UNFOLDED_MAX, type Edge, type Node } from '../graph.ts';
import type { FlowJob } from '../api.ts';
import { href, scope } from '../place.ts';
import { pieces, cut } from '../text.ts';
import { t } from '../texts.ts';
import { duration } from '../units.ts';
import { SHAPES } from './icon.tsx';
import { Panel } from './panel.tsx';

const [WIDTH, HEIGHT, COLUMN, ROW, EDGE] = [192, 46, 252, 62, 8];
/** Characters of a name that a node has room for. */
const NAME_MAX = 21;
const ZOOMS = [0.5, 0.75, 1, 1.5, 2] as const;

const plain = (text: string): string => {
  const { shown, left } = cut(text, NAME_MAX);
  return pieces(shown).map((piece) => ('text' in piece ? piece.text : piece.code)).join('') + (left > 0 ? '…' : '');
};

/** The jobs of a flow as nodes, from left to right: each is a link, and stands behind all that it comes after. */
export function FlowGraph({ jobs, fold, foldHref }: { jobs: readonly FlowJob[]; fold: boolean; foldHref: string }): JSX.Element {
  const tooMany = jobs.length > UNFOLDED_MAX;
  const graph = graphOf(jobs, fold || tooMany);
  const [zoom, setZoom] = useState(2);
  const region = useRef<HTMLDivElement>(null);
  const width = graph.layers * COLUMN - (COLUMN - WIDTH) + 2 * EDGE;
  const height = Math.max(1, graph.rows) * ROW + EDGE;
  const by = ZOOMS[zoom] ?? 1;
  const step = (of: -1 | 1): void => setZoom(Math.max(0, Math.min(ZOOMS.length - 1, zoom + of)));
  const inLayer = new Map<number, number>();
  for (const node of graph.nodes) inLayer.set(node.layer, Math.max(inLayer.get(node.layer) ?? 0, node.row + 1));
  const placeOf = (node: Node): [number, number] => [
    EDGE + node.layer * COLUMN,
    EDGE + (height - EDGE - (inLayer.get(node.layer) ?? 1) * ROW) / 2 + node.row * ROW,
  ];
  const key = (event: KeyboardEvent): void => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === '+') step(1);
    else if (event.key === '-') step(-1);
    else if (event.key === '0') setZoom(2);
    else return;
    event.preventDefault();
  };
  const follow = (): void => {
    const node = region.current?.querySelector<SVGAElement>('.n-leased, .n-ready');
    node?.scrollIntoView({ block: 'nearest', inline: 'center' });
    node?.focus({ preventScroll: true });
  };
  return (
    <Panel
      title={t.flow.graph}
      note={<span class="hint">{t.flow.graphHint}</span>}
      acts={
        <>
          <button class="b pl" type="button" onClick={follow}>{t.flow.follow}</button>
          {!tooMany && <a class="b pl" href={foldHref}>{fold ? t.flow.unfold : t.flow.fold}</a>}
          <button class="b pl sq" type="button" aria-label={t.flow.zoomOut} disabled={zoom === 0} onClick={() => step(-1)}>−</button>
          <button class="b pl sq" type="button" aria-label={t.flow.zoomIn} disabled={zoom === ZOOMS.length - 1} onClick={() => step(1)}>+</button>
        </>
      }
    >
      <div class="body">
        {tooMany && <p class="note">{t.flow.tooMany}</p>}
        <div class="scroll" ref={region} tabIndex={0} role="region" aria-label={t.flow.graphLabel} onKeyDown={key}>
          <svg class="dag as-is" width={width * by} height={height * by} viewBox={`0 0 ${width} ${height}`} role="group" aria-label={t.flow.graphSentence(jobs.length, graph.edges.length)}>
            {graph.edges.map((edge) => <Line key={`${edge.from.key} ${edge.to.key} ${edge.onFailure}`} edge={edge} placeOf={placeOf} />)}
            {graph.nodes.map((node) => <Box key={node.key} node={node} at={placeOf(node)} foldHref={foldHref} />)}
          </svg>
        </div>
      </div>
    </Panel>
  );
}

const CLASS: Record<Edge['is'], string> = { done: '', wait: ' wait', bad: ' bad' };

function Line({ edge, placeOf }: { edge: Edge; placeOf: (node: Node) => [number, number] }): JSX.Element {
  const [left, top] = placeOf(edge.from);
  const [x, y] = placeOf(edge.to);
  const [x1, y1, y2] = [left + WIDTH, top + HEIGHT / 2, y + HEIGHT / 2];
  const middle = (x1 + x) / 2;
  return (
    <>
      <path class={`edge${CLASS[edge.is]}`} d={`M${x1} ${y1}C${middle} ${y1} ${middle} ${y2} ${x} ${y2}`} />
      {edge.onFailure !== 'fail' && <text class="e" x={middle} y={(y1 + y2) / 2 - 4} text-anchor="middle">{edge.onFailure}</text>}
    </>
  );
}

function Box({ node, at: [x, y], foldHref }: { node: Node; at: [number, number]; foldHref: string }): JSX.Element {
  const [first, ...others] = node.jobs;
  const state = stateOf(node.jobs);
  const final = node.jobs.filter((job) => job.finished_at !== null).length;
  const name = first === undefined ? '' : others.length === 0 ? plain(first.name) : plain(t.flow.folded(final, node.jobs.length, first.kind));
  const took = first && first.usage.wall_us > 0 ? duration(first.usage.wall_us / 1000) : undefined;
  const sub = others.length > 0 ? t.state[state] : took === undefined ? t.state[state] : `${t.state[state]}, ${took}`;
  const to = others.length > 0 || !first ? foldHref : href(['jobs', first.tenant, first.id], { tenant: scope() });
  return (
    <a class={`node n-${state}`} href={to}>
      <rect x={x} y={y} width={WIDTH} height={HEIGHT} rx="6" />
      <rect class="bar" x={x} y={y + 8} width="3" height={HEIGHT - 16} />
      <svg class="ic" x={x + 11} y={y + 9} width="14" height="14" viewBox="0 0 16 16" aria-hidden="true">{SHAPES[state]}</svg>
      <text class="k" x={x + 31} y={y + 20}>{name}</text>
      <text class="s" x={x + 31} y={y + 36}>{sub}</text>
    </a>
  );
}
