// Cron expressions in words, where there are words for them. What the daemon makes of one is in its next times.
import { t } from './texts.ts';

const DAYS = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'];
const two = (value: number): string => String(value).padStart(2, '0');

/** Numbers of a list such as `8,20`; undefined if a part is anything else. */
function numbersOf(field: string): number[] | undefined {
  const parts = field.split(',');
  return parts.every((part) => /^\d{1,2}$/.test(part)) ? parts.map(Number) : undefined;
}

const dayOf = (part: string): number => (/^[0-7]$/.test(part) ? Number(part) % 7 : DAYS.indexOf(part.toLowerCase()));

function weekdaysOf(field: string): number[] | undefined {
  const found: number[] = [];
  for (const part of field.split(',')) {
    const [from = '', to] = part.split('-');
    const [first, last] = [dayOf(from), dayOf(to ?? from)];
    if (first < 0 || last < first) return undefined;
    for (let day = first; day <= last; day++) found.push(day);
  }
  return found;
}

function timesOf(minute: string, hour: string): string | undefined {
  const every = /^\*\/(\d{1,2})$/.exec(minute)?.[1];
  if (hour === '*') {
    if (minute === '*') return t.cron.everyMinute;
    if (every !== undefined && 60 % Number(every) === 0) return t.cron.everyMinutes(Number(every));
    const minutes = numbersOf(minute);
    return minutes && t.cron.hourly(minutes.map((at) => `:${two(at)}`));
  }
  const minutes = numbersOf(minute);
  const hours = numbersOf(hour);
  if (!minutes || !hours || minutes.length * hours.length > 6) return undefined;
  return t.cron.at(hours.flatMap((at) => minutes.map((part) => `${two(at)}:${two(part)}`)));
}

function daysOf(day: string, month: string, weekday: string): string | undefined {
  if (month !== '*') return undefined;
  if (day === '*' && weekday === '*') return t.cron.everyDay;
  if (weekday === '*') return day === 'L' ? t.cron.lastDay : ((days) => days && t.cron.daysOfMonth(days))(numbersOf(day));
  if (day !== '*') return undefined;
  const days = weekdaysOf(weekday);
  if (!days) return undefined;
  return days.join() === '1,2,3,4,5' ? t.cron.weekdays : t.cron.days(days);
}

/** Says an expression of five fields, or of six whose seconds are 0, in words. Undefined where there are none that are sure. */
export function wordsOf(cron: string): string | undefined {
  const fields = cron.trim().split(/\s+/);
  if (fields.length === 6 && fields[0] === '0') fields.shift();
  const [minute, hour, day, month, weekday, more] = fields;
  if (minute === undefined || hour === undefined || day === undefined || month === undefined || weekday === undefined || more !== undefined) return undefined;
  const [times, days] = [timesOf(minute, hour), daysOf(day, month, weekday)];
  if (times === undefined || days === undefined) return undefined;
  return hour === '*' && days === t.cron.everyDay ? times : t.cron.sentence(times, days);
}
