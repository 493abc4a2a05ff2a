-- The last complete sync of a history, if its rows still have the form that this release writes.
SELECT fingerprint, sessions
FROM looks
WHERE history = $history AND form = $form
