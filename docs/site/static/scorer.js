/* Scores of search results: pages for users come before records and lists of changes. */
var Scorer = {
  score: ([docname, title, anchor, descr, score]) =>
    /^(decisions|source)\//.test(docname) || docname === "changelog" || docname === "architecture"
      ? score - 30
      : score + (anchor ? 0 : 2),
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
