<?php
// For php -S: says its marker, and who asked.
header('Content-Type: text/plain');
printf("%s peer=%s port=%s pid=%d\n", getenv('E2E_MARKER'), $_SERVER['REMOTE_ADDR'],
       $_SERVER['REMOTE_PORT'], getmypid());
