import type { JSX } from 'preact';
import { useId, useState } from 'preact/hooks';
import { useChange } from '../change.ts';
import { Copy } from '../parts/copy.tsx';
import { Failed } from '../parts/notice.tsx';
import { signIn } from '../session.ts';
import { t } from '../texts.ts';
import { useTitle } from '../title.ts';

/** Exchanges a token for a session. Where it was called from, the page goes on. */
export function SignIn(): JSX.Element {
  const id = useId();
  const [token, setToken] = useState('');
  const { busy, problem, change } = useChange();
  useTitle(t.signIn.title);
  const submit = (event: Event): void => {
    event.preventDefault();
    void change(() => signIn(token.trim()));
  };
  return (
    <main id="main" tabIndex={-1} class="alone">
      <h1>{t.signIn.title}</h1>
      <p class="q">{t.signIn.intro}</p>
      <form class="sign-in" onSubmit={submit}>
        <label for={id}>{t.signIn.token}</label>
        <input class="in" id={id} type="password" autocomplete="off" spellcheck={false} required autofocus value={token} onInput={(event) => setToken(event.currentTarget.value)} />
        <button class="b go" type="submit" disabled={busy || token.trim() === ''}>{t.signIn.go}</button>
      </form>
      {problem && <Failed what={t.signIn.title} problem={problem} />}
      <p class="note">{t.signIn.how} <code>{t.signIn.command}</code></p>
      <p><Copy label={t.copy.command} text={t.signIn.command} /></p>
    </main>
  );
}
