/** Folder of the dashboard's sources, as the build names it. */
declare const HERE: string;
