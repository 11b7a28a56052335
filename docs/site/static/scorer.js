/* Scores of search results. Sphinx does not count how often a word occurs, so of equal pages those come first that
   answer most questions, and records and lists of changes come last. */
const FIRST_PAGES = ["loader", "how-to", "concepts", "index", "cli"];
const LAST_PAGES = /^(decisions\/|source\/|changelog$|architecture$|performance$|reference\/settings$)/;
var Scorer = {
  score: ([docname, title, anchor, descr, score]) => {
    if (LAST_PAGES.test(docname)) return score - 30;
    if (FIRST_PAGES.includes(docname)) return score + 4;
    return score + (docname.startsWith("tutorials/") ? 3 : anchor ? 0 : 2);
  },
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
