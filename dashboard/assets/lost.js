/* Questions that get no answer: the server is gone, the network is, or what came back is an error. Dash tells nobody. */
(function () {
  "use strict";

  const QUESTIONS = "_dash-update-component";
  const RETRY = 1000; // ms between a question that failed and the next; twice as many each time, and no more than MOST
  const MOST = 16000;

  const watched = []; // by whom which questions are asked

  function tell(body) {
    const inputs = JSON.parse(body).inputs.flat();
    watched.forEach(([isAsking, lose]) =>
      inputs.filter(({id, value}) => isAsking(id) && value).forEach(({value}) => lose(value))
    );
  }

  const {fetch} = window;
  window.fetch = async (...request) => {
    const [url, options] = request;
    const tellOf = () => String(url).includes(QUESTIONS) && tell(options.body);
    const lose = (error) => {
      tellOf();
      throw error;
    };
    const response = await fetch(...request).catch(lose);
    if (!response.ok) {
      tellOf();
    }
    const read = response.json.bind(response);
    response.json = () => read().catch(lose); // it may break off
    return response;
  };

  /* Of each question that failed and whose component `isAsking` knows by its id, `lose` is told what was asked. */
  function watch(isAsking, lose) {
    watched.push([isAsking, lose]);
  }

  /* How long to wait before the next question, from one that failed to the next, and anew once one was answered. */
  function patience() {
    let pause = RETRY;
    return {
      next() {
        const now = pause;
        pause = Math.min(2 * pause, MOST);
        return now;
      },
      anew() {
        pause = RETRY;
      },
    };
  }

  window.dash_clientside = Object.assign({}, window.dash_clientside, {lost: {patience, watch}});
})();
