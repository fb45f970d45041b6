import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import type { Job } from '../api.ts';
import { edit } from '../deeds.ts';
import { editOf, type Fields } from '../edit.ts';
import { pretty, rawAt } from '../json.ts';
import { t } from '../texts.ts';
import { Act } from './act.tsx';

/** Changes a job that waits: its payload, its priority, when it is due. `text` is its document as it was written. */
export function EditJob({ job, text, after }: { job: Job; text: string; after: () => void }): JSX.Element {
  const { payload } = job;
  const raw = payload && 'json' in payload ? pretty(rawAt(text, ['payload', 'json']) ?? '') : payload && 'text' in payload ? payload.text : undefined;
  const was: Fields = { payload: raw, isJson: payload !== undefined && 'json' in payload, priority: String(job.priority), delay: '' };
  const [is, setIs] = useState(was);
  const { edit: of, wrong } = editOf(was, is);
  const field = (name: 'payload' | 'priority' | 'delay') => ({
    value: is[name] ?? '',
    autocomplete: 'off',
    onInput: (event: { currentTarget: { value: string } }) => setIs({ ...is, [name]: event.currentTarget.value }),
  });
  const told = wrong === undefined ? (of === undefined ? t.edit.unchanged : undefined) : t.edit[wrong];
  return (
    <Act label={t.edit.button} title={t.edit.title(job.kind)} tenant={job.tenant} role="edit" deed={() => edit(job, of ?? {})} ready={of !== undefined} said={t.edit.done} after={after}>
      <p><code>{job.id}</code></p>
      <p class="q">{t.edit.text}</p>
      {raw === undefined
        ? <p class="note">{t.edit.hex}</p>
        : <label><span>{was.isJson ? t.edit.payload : t.edit.payloadText}</span><textarea class="in" rows={8} spellcheck={false} aria-invalid={wrong === 'wrong'} {...field('payload')} /></label>}
      <label><span>{t.edit.priority}</span><input class="in" inputMode="numeric" aria-invalid={wrong === 'wrongPriority'} {...field('priority')} /></label>
      {job.state !== 'blocked' && <label><span>{t.edit.delay}</span><input class="in" aria-invalid={wrong === 'wrongDelay'} {...field('delay')} /></label>}
      {told !== undefined && <p class="note" role="status">{told}</p>}
    </Act>
  );
}
