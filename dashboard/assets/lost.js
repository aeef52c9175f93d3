/* Questions that wait for their answer, and those that get none: the server is gone, the network is, or what came back
   is an error. Dash tells nobody. And answers that come too late. */
(function () {
  "use strict";

  const QUESTIONS = "_dash-update-component";
  const RETRY = 1000; // ms between a question that failed and the next; twice as many each time, and no more than MOST
  const MOST = 16000;

  const ANSWER = 200; // the status of one that has to be read; others come without
  const watched = []; // by whom which questions are asked
  let count = 0; // of questions that wait

  function tell(body) {
    const inputs = JSON.parse(body).inputs.flat();
    watched.forEach(([isAsking, lose]) =>
      inputs.filter(({id, value}) => isAsking(id) && value).forEach(({value}) => lose(value))
    );
  }

  const asText = (id) => (typeof id === "object" ? JSON.stringify(Object.fromEntries(Object.entries(id).sort())) : id);

  /* Whether a component is on the page. Of one that is not, Dash cannot tell and fails. */
  function isThere(id) {
    try {
      const {props} = window.dash_component_api.getLayout(id.startsWith("{") ? JSON.parse(id) : id);
      return asText(props.id) === id;
    } catch {
      return false;
    }
  }

  /* Changes that an answer brings to what has left the page meanwhile are taken out of it: Dash fails at them. */
  function forget(brought) {
    Object.entries(brought).forEach(([id, props]) => {
      const changes = Object.keys(props).filter((name) => props[name]?.__dash_patch_update);
      if (changes.length && !isThere(id)) {
        changes.forEach((name) => delete props[name]);
      }
    });
  }

  const {fetch} = window;
  window.fetch = async (...request) => {
    const [url, options] = request;
    if (!String(url).includes(QUESTIONS)) {
      return fetch(...request);
    }
    const lose = (error) => {
      count -= 1;
      tell(options.body);
      throw error;
    };
    count += 1;
    const response = await fetch(...request).catch(lose);
    if (response.status === ANSWER) {
      const read = response.json.bind(response);
      response.json = async () => {
        const answer = await read().catch(lose); // it may break off
        count -= 1;
        forget(answer.response || {});
        return answer;
      };
      return response;
    }
    count -= 1;
    if (!response.ok) {
      tell(options.body);
    }
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

  window.dash_clientside = Object.assign({}, window.dash_clientside, {lost: {patience, waiting: () => count, watch}});
})();
