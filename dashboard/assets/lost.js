/* Questions that get no answer: the server is gone, the network is, or what came back is an error. Dash tells nobody. */
(function () {
  "use strict";

  const QUESTIONS = "_dash-update-component";

  /* The serial number of the choice that is asked about; none where the question is another one. */
  function serialOf(body) {
    const choice = JSON.parse(body).inputs.find((input) => input.id === "choice");
    return choice && choice.value && choice.value.serial;
  }

  /* `tell` is told the serial number of each choice whose question failed. */
  function watch(tell) {
    const fetch = window.fetch;
    window.fetch = async (...request) => {
      const [url, options] = request;
      const serial = String(url).includes(QUESTIONS) ? serialOf(options.body) : null;
      const lose = (error) => {
        tell(serial);
        throw error;
      };
      const response = await fetch(...request).catch(lose);
      if (!response.ok) {
        tell(serial);
      }
      const read = response.json.bind(response);
      response.json = () => read().catch(lose); // it may break off
      return response;
    };
  }

  window.dash_clientside = Object.assign({}, window.dash_clientside, {lost: {watch}});
})();
